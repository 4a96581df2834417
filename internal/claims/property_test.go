package claims

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// checkObject reads an object as a verifier does: it is JSON, no name is there twice
// at any level, and the claims of base are as they were.
func checkObject(t rapid.TB, text string) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	checkNames(t, decoder)
	if _, err := decoder.Token(); err != io.EOF {
		t.Fatalf("%q goes on after its end: %v", text, err)
	}
	var registered struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Scope   string `json:"scope"`
		Expiry  int    `json:"exp"`
	}
	if err := json.Unmarshal([]byte(text), &registered); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if got := fmt.Sprint(registered); got != "{I S P 1}" {
		t.Fatalf("%q is a token of %s", text, got)
	}
}

// checkNames reads one value.
func checkNames(t rapid.TB, decoder *json.Decoder) {
	t.Helper()
	token := next(t, decoder)
	if token != json.Delim('{') && token != json.Delim('[') {
		return
	}
	names := map[any]bool{}
	for decoder.More() {
		if token == json.Delim('{') {
			name := next(t, decoder)
			if names[name] {
				t.Fatalf("%q is there twice", name)
			}
			names[name] = true
		}
		checkNames(t, decoder)
	}
	next(t, decoder)
}

func next(t rapid.TB, decoder *json.Decoder) json.Token {
	t.Helper()
	token, err := decoder.Token()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// decoded reads JSON; numbers stay as they are written.
func decoded(t rapid.TB, text []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return value
}

// node is a value of a template: how it is written, and what it is worth. There is no
// parser in it, so it knows nothing of the one that it tests.
type node struct {
	written string
	worth   any // nil: nothing
}

// author writes templates about a client and a request.
type author struct {
	t        *rapid.T
	metadata map[string]any
	request  map[string]string
	depth    int
	left     int // expressions and other values
}

var (
	text = rapid.StringOfN(rapid.OneOf(rapid.RuneFrom([]rune("ab{}[],:\"\\/ \n\x00\u2028é😀")), rapid.Rune()), 0, 12, -1)
	keys = rapid.SampledFrom([]string{"a", "b", "odd key", `"}}`, "é", "absent"})
)

// data draws a value of metadata.
func data(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.Map(text, func(s string) any { return s }),
		rapid.Map(rapid.SampledFrom([]string{"0", "-1.50e+3", "1E400", "18446744073709551616"}), func(s string) any { return json.Number(s) }),
		rapid.SampledFrom([]any{true, false, nil}),
	)
	if depth == 0 {
		return scalar
	}
	return rapid.OneOf(scalar,
		rapid.Map(rapid.SliceOfN(data(depth-1), 0, 3), func(s []any) any { return append([]any{}, s...) }),
		rapid.Map(rapid.MapOfN(keys, data(depth-1), 0, 3), func(m map[string]any) any { return m }),
	)
}

func (a *author) space() string {
	return rapid.SampledFrom([]string{"", " ", "\n", "\t\r\n "}).Draw(a.t, "space")
}

func (a *author) value() node {
	a.left--
	kinds := []string{"text", "number", "word", "client", "metadata", "request"}
	if a.depth < MaxDepth && a.left > 0 {
		kinds = append(kinds, "object", "array")
	}
	switch kind := rapid.SampledFrom(kinds).Draw(a.t, "kind"); kind {
	case "object":
		return a.object()
	case "array":
		return a.array()
	case "text":
		s := text.Filter(func(s string) bool { return !strings.Contains(s, "{{") }).Draw(a.t, "text")
		return node{marshal(s), s}
	case "number":
		n := rapid.SampledFrom([]string{"0", "-7", "1.50", "2e9"}).Draw(a.t, "number")
		return node{n, json.Number(n)}
	case "word":
		w := rapid.SampledFrom([]any{true, false, nil}).Draw(a.t, "word")
		return node{marshal(w), w}
	default:
		return a.expression(kind)
	}
}

func (a *author) expression(kind string) node {
	n := node{"client.namespace", "ns"}
	switch kind {
	case "request":
		name := rapid.SampledFrom([]string{"x", "y", "absent"}).Draw(a.t, "parameter")
		n = node{"request." + name, nil}
		if s := a.request[name]; s != "" {
			n.worth = s
		}
	case "metadata":
		path := rapid.SliceOfN(keys, 1, 3).Draw(a.t, "path")
		n = node{"client.trusted_metadata", any(a.metadata)}
		for _, key := range path {
			n.written += "[" + marshal(key) + "]"
			object, _ := n.worth.(map[string]any)
			n.worth = object[key]
		}
	}
	n.written = "{{" + a.space() + n.written + a.space() + "}}"
	return n
}

func (a *author) object() node {
	a.depth++
	defer func() { a.depth-- }()
	worth := map[string]any{}
	var written []string
	for _, name := range rapid.SliceOfNDistinct(text.Filter(func(s string) bool {
		return s != "" && !strings.Contains(s, "{{") && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) &&
			(a.depth > 1 || !isRegisteredClaim(s))
	}), 0, 4, rapid.ID).Draw(a.t, "names") {
		v := a.value()
		written = append(written, a.space()+marshal(name)+a.space()+":"+a.space()+v.written+a.space())
		if v.worth != nil {
			worth[name] = v.worth
		}
	}
	return node{"{" + strings.Join(written, ",") + a.space() + "}", worth}
}

func (a *author) array() node {
	a.depth++
	defer func() { a.depth-- }()
	worth := []any{}
	var written []string
	for range rapid.IntRange(0, 4).Draw(a.t, "elements") {
		v := a.value()
		written = append(written, a.space()+v.written+a.space())
		if v.worth != nil {
			worth = append(worth, v.worth)
		}
	}
	return node{"[" + strings.Join(written, ",") + a.space() + "]", worth}
}

func marshal(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// TestRendering: what is rendered is what the template is worth.
func TestRendering(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := author{t: t, left: 40}
		a.metadata = rapid.MapOfN(keys, data(2), 0, 5).Draw(t, "metadata")
		a.request = rapid.MapOfN(rapid.SampledFrom([]string{"x", "y"}), text, 0, 2).Draw(t, "request")
		n := a.object()
		template, err := Parse(n.written)
		if err != nil {
			if len(n.written) > MaxTemplateBytes {
				t.Skip("too long")
			}
			t.Fatalf("%s: %v", n.written, err)
		}
		metadata := map[string]json.RawMessage{}
		for key, value := range a.metadata {
			metadata[key] = json.RawMessage(marshal(value))
		}
		bound, err := template.Bind(Client{ID: "id", Namespace: "ns", Metadata: metadata})
		if err != nil {
			t.Fatalf("%s: %v", n.written, err)
		}
		rendered, err := bound.Append(nil, parameters(a.request))
		if err != nil {
			t.Fatalf("%s: %v", n.written, err)
		}
		members, first := strings.CutPrefix(string(rendered), ",")
		if first != (len(n.worth.(map[string]any)) > 0) {
			t.Fatalf("%s is rendered as %q", n.written, rendered)
		}
		if got := decoded(t, []byte("{"+members+"}")); !reflect.DeepEqual(got, n.worth) {
			t.Fatalf("%s is rendered as\n%s, not\n%s", n.written, members, marshal(n.worth))
		}
	})
}

// FuzzParse: whatever the template, the metadata and the request are, the token stays
// the issuer's, and messages are short.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":{{ client.trusted_metadata.k }},"b":[{{request.x}},null,{"c":{{client.client_id}}}]}`,
		`{"a":"{{ x }}"}`, `{"Sub":1,"a":1}`, "{\"\u017fub\":1}", `{"a":{{request.client_secret}}}`, `{"a":{{client.trusted_metadata["}}"].b}}}`,
		`{"a":"\u0000","b":"\ud800"}`, `{"a":1,"a":2}`, `{"a":{"sub":{{request["a.b"]}},"d":1},"e":[[],{}]}`, `{{ client }}`,
	} {
		f.Add(seed, `{"b":"}, {{","sub":null}`, `"}, "sub": "admin`)
	}
	f.Fuzz(func(t *testing.T, text, value, parameter string) {
		template, err := Parse(text)
		if err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("a message of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		metadata := map[string]json.RawMessage{}
		for _, key := range template.MetadataKeys() {
			metadata[key] = json.RawMessage(value)
		}
		bound, err := template.Bind(Client{ID: parameter, Namespace: value, Metadata: metadata})
		if err != nil {
			return
		}
		rendered, err := bound.Append([]byte(base), func(string) (string, bool) { return parameter, true })
		checkObject(t, string(rendered)+"}")
		if err == nil && len(rendered) > len(base)+MaxBytes {
			t.Errorf("%d bytes", len(rendered))
		}
		bare, err := bound.Append([]byte(base), func(string) (string, bool) { return "", false })
		checkObject(t, string(bare)+"}")
		static, ok := bound.Static()
		if err != nil || ok != (len(template.RequestParameters()) == 0) || ok && base+static != string(bare) {
			t.Errorf("%q is %q, or %q: %v", text, static, bare, err)
		}
	})
}

// FuzzBind: metadata arrives as encoding/json reads it, or is refused for a reason.
func FuzzBind(f *testing.F) {
	template := parse(f, `{"a":{"b":{{ client.trusted_metadata.k }},"c":1},"d":[{{ client.trusted_metadata.k.x }}]}`)
	for _, seed := range []string{
		`"a"`, `null`, ``, ` `, `1e999999`, `-0`, `{"x":{"x":[1,2,{}]}}`, `{"x":1,"x":2}`, `"}, \"sub\": \"admin"`, `}}`, "\"\xff\u2028\"",
		`"\ud800"`, strings.Repeat("[", 20) + strings.Repeat("]", 20), `{"x":`, `1,"sub":2`, "{\"\xff\":1,\"\xfe\":2}", "\"\x00\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		bound, err := template.Bind(Client{Metadata: map[string]json.RawMessage{"k": raw}})
		usable := len(raw) == 0 || json.Valid(raw) && len(raw) < MaxClientBytes/12 && bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) <= MaxMetadataDepth
		if err != nil {
			if usable || len(err.Error()) > 500 {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		rendered, err := bound.Append([]byte(base), nil)
		if err != nil {
			t.Fatal(err)
		}
		checkObject(t, string(rendered)+"}")
		want := map[string]any{"b": nil, "c": json.Number("1")}
		if len(raw) > 0 {
			want["b"] = decoded(t, raw)
		}
		element, _ := want["b"].(map[string]any)
		elements := []any{}
		if element["x"] != nil {
			elements = append(elements, element["x"])
		}
		if want["b"] == nil {
			delete(want, "b")
		}
		got, _ := decoded(t, append(rendered, '}')).(map[string]any)
		if !reflect.DeepEqual(got["a"], any(want)) || !reflect.DeepEqual(got["d"], any(elements)) {
			t.Errorf("%q became %s", raw, rendered)
		}
	})
}

// FuzzAppend: text arrives as encoding/json would write it.
func FuzzAppend(f *testing.F) {
	template := parse(f, `{"a":{{ request.x }},"b":[{{ client.client_id }},{{ request.x }}],"c":{"d":{{ client.namespace }}}}`)
	for _, seed := range []string{"", "a", `"}, "sub": "admin`, "}} {{ request.x }}", "\xff\xc3", "\x00\x1f\x7f", "\u2028\ufffd😀", strings.Repeat("\x00", 1025), `\u0022`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		bound, err := template.Bind(Client{ID: value, Namespace: value})
		if err != nil {
			if len(value) < MaxClientBytes/12-2 {
				t.Error(err)
			}
			return
		}
		rendered, err := bound.Append([]byte(base), parameters(map[string]string{"x": value}))
		checkObject(t, string(rendered)+"}")
		if err != nil {
			if len(value) <= MaxParameterBytes/2 {
				t.Error(err)
			}
			return
		}
		same := decoded(t, []byte(marshal(value)))
		want := map[string]any{"a": same, "b": []any{same, same}, "c": map[string]any{"d": same}}
		if value == "" {
			want = map[string]any{"b": []any{""}, "c": map[string]any{"d": ""}}
		}
		got, _ := decoded(t, append(rendered, '}')).(map[string]any)
		for name := range got {
			if len(name) > 1 {
				delete(got, name) // of base
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q became %s", value, rendered)
		}
	})
}
