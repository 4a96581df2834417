package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// base is what a token says before its custom claims.
const base = `{"iss":"I","sub":"S","scope":"P","exp":1`

// client is one whose words are hostile.
func client() Client {
	return Client{
		ID:        "m2m-client-test-1",
		Namespace: "billing",
		Metadata: map[string]json.RawMessage{
			"tier":    json.RawMessage(`"standard"`),
			"escape":  json.RawMessage(`"\"}, \"sub\": \"admin"`),
			"braces":  json.RawMessage(`"}} {{ request.user }}"`),
			"nothing": json.RawMessage(`null`),
			"empty":   json.RawMessage(nil),
			"plan":    json.RawMessage("{ \"seats\" : 1.50e+2,\n\"of\":{\"name\":\"<a&b>\",\"no\":null}, \"sub\":\"x\" }"),
			"odd key": json.RawMessage(`[true, [], {}, 18446744073709551616]`),
			"lines":   json.RawMessage("\"\u2028\\u0000\xff\\ud800\""),
		},
	}
}

func parameters(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := m[name]
		return value, ok
	}
}

func parse(t testing.TB, text string) *Template {
	t.Helper()
	template, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return template
}

func render(t testing.TB, text string, request map[string]string) string {
	t.Helper()
	bound, err := parse(t, text).Bind(client())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	rendered, err := bound.Append([]byte(base), parameters(request))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	checkObject(t, string(rendered)+"}")
	return strings.TrimPrefix(string(rendered), base)
}

func TestRender(t *testing.T) {
	escape := `"}, "sub": "admin`
	request := map[string]string{"user": "u1", "escape": escape, "none": "", "a.b": "dotted", "bad": "\xff\x00\u2028</"}
	for _, c := range []struct{ template, want string }{
		{`{}`, ``},
		{" {\r\n\t} \n", ``},
		{`{"fixed": "x", "n": -1.50E+9, "yes": true, "no": false}`, `,"fixed":"x","n":-1.50E+9,"yes":true,"no":false`},
		{`{"a":"\u00e9\/\ud83d\ude00\n","é\"":1}`, `,"a":"é/😀\u000a","é\"":1`},
		{`{"braces": "\u007b{ x }} }}"}`, `,"braces":"{{ x }} }}"`},
		{`{"id": {{ client.client_id }}, "ns": {{client.namespace}}}`, `,"id":"m2m-client-test-1","ns":"billing"`},
		{`{"tier": {{ client.trusted_metadata.tier }}, "user": {{ request.user }}, "fixed": "x"}`, `,"tier":"standard","user":"u1","fixed":"x"`},
		{`{"deep": {{ client.trusted_metadata.plan.of.name }}}`, `,"deep":"<a&b>"`},
		{`{"odd": {{ client["trusted_metadata"]["odd key"] }}}`, `,"odd":[true,[],{},18446744073709551616]`},
		{`{"plan": {{ client.trusted_metadata.plan }}}`, `,"plan":{"of":{"name":"<a&b>","no":null},"seats":1.50e+2,"sub":"x"}`},
		{`{"dot": {{ request["a.b"] }}}`, `,"dot":"dotted"`},
		{`{"nested": {"sub": {{ client.client_id }}}}`, `,"nested":{"sub":"m2m-client-test-1"}`},

		// What tries to escape stays a value.
		{`{"m": {{ client.trusted_metadata.escape }}, "r": {{ request.escape }}}`, `,"m":"\"}, \"sub\": \"admin","r":"\"}, \"sub\": \"admin"`},
		{`{"m": {{ client.trusted_metadata.braces }}}`, `,"m":"}} {{ request.user }}"`},
		{`{"r": {{ request.bad }}}`, `,"r":"` + "\ufffd" + `\u0000\u2028</"`},
		{`{"m": {{ client.trusted_metadata.lines }}}`, `,"m":"\u2028\u0000` + "\ufffd\ufffd" + `"`},

		// What has no value is left out, wherever it stands.
		{`{"a": {{ client.trusted_metadata.nothing }}, "b": {{ client.trusted_metadata.absent }}, "c": {{ client.trusted_metadata.empty }}, "d": null}`, ``},
		{`{"a": {{ request.absent }}, "b": {{ request.none }}, "c": 1}`, `,"c":1`},
		{`{"a": {{ client.trusted_metadata.tier.no }}, "b": {{ client.trusted_metadata.plan.of.no }}, "c": {{ client.trusted_metadata["odd key"].x }}}`, ``},
		{`{"a": {"b": {{ request.absent }}, "c": {{ client.trusted_metadata.absent }}, "d": null}, "e": [null]}`, `,"a":{},"e":[]`},
		{`{"a": [{{ request.absent }}, {{ request.user }}, {{ client.trusted_metadata.absent }}, 1, null]}`, `,"a":["u1",1]`},
		{`{"a": {"b": {{ request.absent }}, "c": {{ request.user }}}, "d": [{{ request.user }}, {{ request.absent }}]}`, `,"a":{"c":"u1"},"d":["u1"]`},
		{`{"a": {{ request.absent }}, "b": [[{{ request.absent }}], {"x": {{ request.absent }}, "y": {{ client.namespace }}}]}`, `,"b":[[],{"y":"billing"}]`},
		{`{"a": [{{ request.absent }}, {{ client.trusted_metadata.absent }}, "[", {{ request.absent }}, 2]}`, `,"a":["[",2]`},
	} {
		if got := render(t, c.template, request); got != c.want {
			t.Errorf("%s\n%s, not\n%s", c.template, got, c.want)
		}
	}
}

func TestRefusedTemplates(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	many := func(n int) string {
		return `{"a":[` + strings.TrimSuffix(strings.Repeat("{{request.x}},", n), ",") + `]}`
	}
	parse(t, nested(MaxDepth))
	parse(t, `{"a":[`+strings.Repeat("[],", MaxDepth)+`{}]}`)
	parse(t, many(MaxExpressions))
	parse(t, `{"`+strings.Repeat("a", MaxNameBytes)+`":{{ request.`+strings.Repeat("a", MaxNameBytes)+` }}}`)
	parse(t, `{"a":"`+strings.Repeat("a", MaxTemplateBytes-8)+`"}`)

	for _, c := range []struct{ template, want string }{
		{``, "at the end of the template: a template is a JSON object: begin it with {"},
		{`[]`, "line 1, column 1: a template is a JSON object: begin it with {"},
		{`{{ client.trusted_metadata }}`, "line 1, column 2: an expression stands in place of a value, not of a name: write a name in double quotes before it"},
		{`{"a":1}}`, "line 1, column 8: the object has ended before this: remove what follows, or a } too many"},
		{"{\"é\":1,\n \"b\" 2}", "line 2, column 6: a name is followed by a colon and a value: put a : here"},
		{`{"a":1 "b":2}`, "line 1, column 8: a value in an object is followed by , or }: put one here"},
		{`{"a":[1 2]}`, "line 1, column 9: a value in an array is followed by , or ]: put one here"},
		{`{"a":[1,]}`, "line 1, column 9: a value belongs here: write one, or {{ and an expression }}"},
		{`{"a":1,}`, "line 1, column 8: a name belongs here: write it in double quotes"},
		{`{"a":`, "at the end of the template: a value belongs here: write one, or {{ and an expression }}"},
		{`{"a":01}`, `line 1, column 6: "01" is not a JSON value: write text in double quotes, and an expression between {{ and }}`},
		{`{"a":client.client_id}`, `line 1, column 6: "client.client_id" is not a JSON value: write text in double quotes, and an expression between {{ and }}`},
		{`{"a":"b}`, "line 1, column 6: this string doesn't end: close it with a double quote"},
		{`{"a":"b\`, "line 1, column 6: this string doesn't end: close it with a double quote"},
		{"{\"a\":\"\n\"}", `line 1, column 6: this string has a line break, another control character or an unknown escape: write it as JSON does, such as \n or \u000a`},
		{"{\"\ufffd\":\"\xff\"}", "line 1, column 7: this is not UTF-8: save the text as UTF-8"},
		{nested(MaxDepth + 1), "line 1, column 41: objects and arrays are nested deeper than 8: make it flatter"},
		{strings.Repeat(" ", MaxTemplateBytes+1), "the template has 4097 bytes, more than 4096: shorten it"},

		{`{"": 1}`, "line 1, column 2: a name has 1 to 128 bytes: choose another"},
		{`{"` + strings.Repeat("a", MaxNameBytes+1) + `": 1}`, "line 1, column 2: a name has 1 to 128 bytes: choose another"},
		{`{"a\u007f": 1}`, "line 1, column 2: a name has no control characters: take them out"},
		{`{"a": 1, "\u0061": 2}`, `line 1, column 10: the name "a" is there twice: remove one of them`},
		{`{"a": [{"b": 1, "b": {{ request.x }}}]}`, `line 1, column 17: the name "b" is there twice: remove one of them`},
		{`{"sub": {{ request.x }}}`, `line 1, column 2: the claim "sub" is the issuer's own word, in upper or lower case: choose another name`},

		{`{"a": {"b": [[]], "sub": 1}, "Sub": 1}`, `line 1, column 30: the claim "Sub" is the issuer's own word, in upper or lower case: choose another name`},

		{`{"a": "{{ client.client_id }}"}`, "line 1, column 8: an expression in a string would be text: leave out the double quotes around {{ }}"},
		{`{"a": "u:{{ request.x }}"}`, "line 1, column 10: an expression in a string would be text: leave out the double quotes around {{ }}"},
		{`{"{{ request.x }}": 1}`, "line 1, column 3: a name is fixed and holds no expression: take the {{ out of it"},
		{`{ {{ request.x }}: 1}`, "line 1, column 3: an expression stands in place of a value, not of a name: write a name in double quotes before it"},
		{`{"a": {{ }}}`, `line 1, column 10: a name of letters, digits, _ and - belongs here: write one, and other names in brackets, as in client.trusted_metadata["odd key"]`},
		{`{"a": {{ client.client_id | upper }}}`, "line 1, column 27: an expression is a path such as client.trusted_metadata.tier and nothing else: end it with }} here"},
		{`{"a": {{ client.client_id }`, "line 1, column 27: an expression is a path such as client.trusted_metadata.tier and nothing else: end it with }} here"},
		{`{"a": {{ client.client_id`, "at the end of the template: an expression is a path such as client.trusted_metadata.tier and nothing else: end it with }} here"},
		{`{"a": {{ client.trusted_metadata[0] }}}`, `line 1, column 34: brackets hold a key in double quotes, as in client.trusted_metadata["odd key"]: write one`},
		{`{"a": {{ client.trusted_metadata["a" }}}`, "line 1, column 37: a bracket is open: close it with ] here"},
		{`{"a": {{ client.trusted_metadata["{{"] }}}`, "line 1, column 35: a key in brackets is fixed and holds no expression: take the {{ out of it"},
		{`{"a": {{ client.trusted_metadata }}}`, "line 1, column 7: " + errWholeMetadata.Error()},
		{`{"a": {{ user.user_id }}}`, "line 1, column 7: " + errUnknown.Error()},
		{`{"a": {{ client.client_id.x }}}`, "line 1, column 7: " + errUnknown.Error()},
		{`{"a": {{ request }}}`, "line 1, column 7: " + errUnknown.Error()},
		{`{"a": {{ request.a.b }}}`, `line 1, column 7: a parameter of a request is text and has no fields: name one parameter after request, with a dot in its name as in request["a.b"]`},
		{`{"a": {{ request["a\u0000b"] }}}`, "line 1, column 7: " + errParameterName.Error()},
		{`{"a": {{ request[""] }}}`, "line 1, column 7: " + errParameterName.Error()},
		{`{"a": ` + strings.Repeat("é", 40) + `}`, `line 1, column 7: "` + strings.Repeat("é", 24) + `..." is not a JSON value: write text in double quotes, and an expression between {{ and }}`},
		{`{"a": {{ request.Client_Secret }}}`, `line 1, column 7: the parameter "Client_Secret" belongs to OAuth or may be a credential, and never gets into a token: have callers send the value under another name`},
		{many(MaxExpressions + 1), "line 1, column 903: there are more than 64 expressions: use fewer"},
	} {
		_, err := Parse(c.template)
		if err == nil || err.Error() != c.want {
			t.Errorf("%.80s\n%v, not\n%s", c.template, err, c.want)
		}
	}
}

// TestRegisteredClaims: a verifier takes a name in other letters for the same claim;
// below the top level a name means nothing.
func TestRegisteredClaims(t *testing.T) {
	for _, name := range append([]string{"\u017fub", "i\u017fs", "Exp", "SCOPE"}, registeredClaims...) {
		for _, written := range []string{name, strings.ToUpper(name), strings.ToTitle(name[:1]) + name[1:]} {
			if _, err := Parse(`{"` + written + `": null}`); err == nil {
				t.Errorf("a template may set %q", written)
			}
		}
		parse(t, `{"a": {"`+name+`": 1}}`)
	}
	for _, name := range []string{"tier", "roles", "groups", "permissions", "email", "subject", "https://hasura.io/jwt/claims"} {
		parse(t, `{"`+name+`": 1}`)
	}
}

func TestProtocolParameters(t *testing.T) {
	for _, name := range slices.Concat(protocolParameters, credentialWords, []string{
		"client_secret", "client_assertion", "client_assertion_type", "access_token", "refresh_token", "id_token", "token_type_hint",
		"subject_token", "subject_token_type", "actor_token", "requested_token_type", "claim_token", "password", "assertion", "vp_token",
	}) {
		for _, written := range []string{name, strings.ToUpper(name)} {
			if _, err := Parse(`{"a": {{ request["` + written + `"] }}}`); err == nil {
				t.Errorf("a template may read the parameter %s", written)
			}
		}
	}
	for _, name := range []string{"user_id", "tenant", "org-id", "trace", "user.id", "codename"} {
		parse(t, `{"a": {{ request["`+name+`"] }}}`)
	}
}

func TestNames(t *testing.T) {
	template := parse(t, `{"a": {{ client.trusted_metadata.z.y }}, "b": [{{ request.n }}, {{ request.m }}], "c": {{ client.trusted_metadata["a b"] }},
		"d": {{ request.n }}, "e": {{ client.trusted_metadata.z }}, "f": {{ client.namespace }}}`)
	if got := fmt.Sprintf("%q", template.MetadataKeys()); got != `["a b" "z"]` {
		t.Error(got)
	}
	if got := fmt.Sprintf("%q", template.RequestParameters()); got != `["m" "n"]` {
		t.Error(got)
	}
}

func TestRefusedMetadata(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	long := func(n int) string { return `"` + strings.Repeat("a", n-2) + `"` }
	once, twice := `{"z": 1, "a": {{ client.trusted_metadata.k }}}`, `{"z": 1, "a": {{ client.trusted_metadata.k }}, "b": {{ client.trusted_metadata.k }}}`
	for _, c := range []struct{ template, value, want string }{
		{once, deep(MaxMetadataDepth), ""},
		{once, deep(MaxMetadataDepth + 1), `trustedMetadata["k"] is nested deeper than 16: make it flatter`},
		{once, `{"a":` + deep(MaxMetadataDepth) + `}`, `trustedMetadata["k"] is nested deeper than 16: make it flatter`},
		{once, long(MaxClientBytes), ""},
		{once, long(MaxClientBytes + 1), `trustedMetadata["k"] has more than 8192 bytes: make it smaller`},
		{twice, long(MaxClientBytes / 2), ""},
		{twice, long(MaxClientBytes/2 + 1), "the client's values in the custom claims have more than 8192 bytes: make its trusted metadata smaller"},
		{once, `"a`, `trustedMetadata["k"] is not JSON: correct it`},
		{once, `1,"sub":"admin"`, `trustedMetadata["k"] is not JSON: correct it`},
		{once, `1 2`, `trustedMetadata["k"] is not JSON: correct it`},
		{once, "\x00", `trustedMetadata["k"] is not JSON: correct it`},
		{once, " ", `trustedMetadata["k"] is not JSON: correct it`},
	} {
		bound, err := parse(t, c.template).Bind(Client{Metadata: map[string]json.RawMessage{"k": json.RawMessage(c.value), "other": json.RawMessage("?")}})
		if got := fmt.Sprint(err); err != nil && got != c.want || err == nil && c.want != "" {
			t.Errorf("%.40s: %v, not %s", c.value, err, c.want)
		}
		if err != nil && bound != (Bound{}) {
			t.Errorf("%.40s: there are claims in spite of %v", c.value, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	bind := func(text string) Bound {
		bound, err := parse(t, text).Bind(client())
		if err != nil {
			t.Fatal(err)
		}
		return bound
	}
	one := bind(`{"a": {{ request.x }}}`)
	all := bind(`{"a": [` + strings.TrimSuffix(strings.Repeat("{{ request.x }},", MaxExpressions), ",") + `]}`)
	fits := (MaxBytes - len(`,"a":[]`) + 1) / MaxExpressions // with quotes and comma
	for _, c := range []struct {
		bound Bound
		value string
		want  string
	}{
		{one, strings.Repeat("a", MaxParameterBytes), ""},
		{one, strings.Repeat("\x00", MaxParameterBytes), ""},
		{one, strings.Repeat("a", MaxParameterBytes+1), `the custom claims are too large: the parameter "x" has more than 1024 bytes`},
		{all, strings.Repeat("a", fits-3), ""},
		{all, strings.Repeat("a", fits-2), "the custom claims are too large: more than 16384 bytes"},
		{all, strings.Repeat("\x00", MaxParameterBytes), "the custom claims are too large: more than 16384 bytes"},
	} {
		got, err := c.bound.Append([]byte(base), parameters(map[string]string{"x": c.value}))
		if err == nil && c.want != "" || err != nil && (err.Error() != c.want || !errors.Is(err, ErrTooLarge) || string(got) != base) {
			t.Errorf("%d bytes %.3q: %v and %d bytes, not %s", len(c.value), c.value, err, len(got), c.want)
		}
	}
}

// TestBound: what is the same for clients is shared, and what needs no request says so.
func TestBound(t *testing.T) {
	var none Bound
	if text, ok := none.Static(); text != "" || !ok {
		t.Error("the zero Bound has claims")
	}
	if got, err := none.Append([]byte("x"), nil); string(got) != "x" || err != nil {
		t.Errorf("the zero Bound appends %q, %v", got, err)
	}
	a, _ := parse(t, `{"tier": {{ client.trusted_metadata.tier }}}`).Bind(client())
	b, _ := parse(t, `{ "tier" : "standard" }`).Bind(Client{})
	if text, ok := a.Static(); a != b || text != `,"tier":"standard"` || !ok {
		t.Errorf("%q and %q are not the same", a, b)
	}
	for _, dst := range []string{"", "{", strings.Repeat("x", 2*MaxBytes)} {
		if got, err := a.Append([]byte(dst), nil); string(got) != dst+`,"tier":"standard"` || err != nil {
			t.Errorf("%d bytes: %q, %v", len(dst), got[len(dst):], err)
		}
	}
	c, _ := parse(t, `{"a": {{ client.client_id }}, "b": {"c": {{ request.x }}, "d": 1}}`).Bind(client())
	if text, ok := c.Static(); text != "" || ok {
		t.Errorf("%q needs no request", text)
	}
	dst := make([]byte, 0, 1024)
	request := parameters(map[string]string{"x": "é\n"})
	if n := testing.AllocsPerRun(10, func() {
		if _, err := c.Append(dst, request); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBind(b *testing.B) {
	template := parse(b, `{"tier": {{ client.trusted_metadata.tier }}, "id": {{ client.client_id }}, "user": {{ request.user_id }}}`)
	of := client()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := template.Bind(of); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	bound, _ := parse(b, `{"tier": {{ client.trusted_metadata.tier }}, "id": {{ client.client_id }}, "user": {{ request.user_id }}}`).Bind(client())
	request := parameters(map[string]string{"user_id": "4f1d8a52-2f4c-4a5f-9b0e-6a6a0f3c9d11"})
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bound.Append(dst, request); err != nil {
			b.Fatal(err)
		}
	}
}
