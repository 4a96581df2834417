package managementapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func httpStatus(code int) string { return strconv.Itoa(code) }

// field is a field of a request, and what it may and mustn't be.
type field struct {
	name      string
	kind      string // string, array, object, number
	good, bad []string
}

func quoted(s string) string {
	text, err := encodeJSON(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func times(s string, n int) string { return quoted(strings.Repeat(s, n)) }

// list is an array of n different scopes.
func list(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"s%d"`, i)
	}
	return "[" + strings.Join(all, ",") + "]"
}

// keys is an object with n keys.
func keys(n int, value string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"k%d":%s`, i, value)
	}
	return "{" + strings.Join(all, ",") + "}"
}

func fields() map[string][]field {
	name := field{"client_name", "string", []string{`""`, times("é", 256)}, []string{times("a", 257), `"a\nb"`, `"a\u0000"`, `"\u007f"`}}
	description := field{"client_description", "string", []string{`"a\n\r\tb"`, times("é", 1024)}, []string{times("a", 1025), `"\u0001"`, `"\u000b"`, `"\u007f"`}}
	scopes := field{"scopes", "array", []string{`[]`, list(100), "[" + times("a", 128) + "]"},
		[]string{list(101), `["a","a"]`, `[""]`, "[" + times("a", 129) + "]", `["a b"]`, `["a\"b"]`, `["a\\b"]`, `["é"]`, `["a\n"]`, `[1]`, `[null]`, `[["a"]]`, `[{}]`}}
	metadata := field{"trusted_metadata", "object", []string{`{}`, keys(20, "1"), `{"":""}`, `{"a":` + times("x", 4096-8) + `}`, `{"a": ` + times("x", 4096-8) + "\t}", `{"a":[ ` + times("x", 4096-10) + ` ]}`},
		[]string{keys(21, "1"), `{"a":` + times("x", 4096-7) + `}`}}
	status := field{"status", "string", []string{`"active"`, `"inactive"`}, []string{`""`, `"Active"`, `"deleted"`}}
	named := field{"client_id", "string", []string{quoted(clientID)}, []string{`""`, `"other"`, times("a", 300)}}
	return map[string][]field{
		"POST /v1/m2m/clients": {
			{"client_id", "string", []string{`"a"`, `"a.b~c_d-E9"`, times("a", 128)}, []string{`""`, `"-a"`, `"a-"`, `"a b"`, `"a/b"`, `"a%b"`, `"é"`, `"a\n"`, `".."`, times("a", 129)}},
			{"client_secret", "string", []string{quoted(chosenSecret), times("x", 256), `"~!\"#$%^&"`}, []string{`""`, `"short12"`, times("x", 257), `"has a space"`, `"umläutumlaut"`, `"control\u0000control"`}},
			name, description, scopes, metadata,
		},
		"PUT " + clientPath: {named, name, description, scopes, status,
			{"trusted_metadata", "object", append(slices.Clone(metadata.good), keys(40, "null")), metadata.bad}},
		"POST " + clientPath + "/secrets/rotate/start":  {named},
		"POST " + clientPath + "/secrets/rotate":        {named},
		"POST " + clientPath + "/secrets/rotate/cancel": {named},
		"POST /v1/m2m/clients/search": {
			{"cursor", "string", []string{`""`, times("a", 4096)}, []string{times("a", 4097)}},
			{"limit", "number", []string{`1`, `1000`}, []string{`0`, `-1`, `1001`, `1.0`, `1e2`, `99999999999999999999`}},
			{"query", "object", []string{`{}`, `{"operator":"AND"}`, operands(20), `{"operands":[{"filter_name":"scopes","filter_value":` + list(100) + `}]}`}, []string{
				`{"operator":""}`, `{"operator":"and"}`, `{"operator":1}`, `{"operands":{}}`, `{"operands":"a"}`, operands(21), `{"frob":1}`,
				`{"operands":[1]}`, `{"operands":[null]}`, `{"operands":[{}]}`, `{"operands":[{"filter_name":"scopes"}]}`, `{"operands":[{"filter_value":["a"]}]}`,
				`{"operands":[{"filter_name":"secret","filter_value":["a"]}]}`, `{"operands":[{"filter_name":1,"filter_value":["a"]}]}`,
				`{"operands":[{"filter_name":"scopes","filter_value":[]}]}`, `{"operands":[{"filter_name":"scopes","filter_value":"a"}]}`,
				`{"operands":[{"filter_name":"scopes","filter_value":[1]}]}`, `{"operands":[{"filter_name":"scopes","filter_value":[null]}]}`,
				`{"operands":[{"filter_name":"scopes","filter_value":[` + times("a", 1025) + `]}]}`, `{"operands":[{"filter_name":"scopes","filter_value":` + list(101) + `}]}`,
				`{"operands":[{"filter_name":"scopes","filter_value":["a"],"frob":1}]}`,
			}},
		},
	}
}

func operands(n int) string {
	one := `{"filter_name":"client_id","filter_value":["a"]}`
	return `{"operands":[` + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + `]}`
}

// TestFields: each field of each request with everything that it may and mustn't be, alone.
// What is refused is a 400 that names the field, and reaches no client.
func TestFields(t *testing.T) {
	values := map[string]string{"string": `"x"`, "array": `["x"]`, "object": `{"x":1}`, "number": `7`, "boolean": `true`}
	f := newFixture(t, nil)
	for call, fields := range fields() {
		method, path, _ := strings.Cut(call, " ")
		for _, field := range fields {
			member := func(value string) string { return quoted(field.name) + ":" + value }
			for _, value := range append(field.good, "null") {
				if w := f.do(t, method, path, "{"+member(value)+"}"); w.Code != 200 {
					t.Errorf("%s with %s: %s", call, short(member(value)), w.Body)
				}
			}
			f.clients.take()
			for kind, value := range values {
				if kind != field.kind {
					field.bad = append(field.bad, value)
				}
			}
			for _, value := range field.bad {
				f.refused(t, method, path, "{"+member(value)+"}", TypeInvalidArgument, field.name)
			}
			f.refused(t, method, path, "{"+member(field.good[0])+","+member(field.good[0])+"}", TypeBadRequest, "twice")
			f.refused(t, method, path, "{"+member("null")+",\"\\u00"+fmt.Sprintf("%02x", field.name[0])+field.name[1:]+"\":null}", TypeBadRequest, "twice")
			f.refused(t, method, path, "{"+quoted(strings.ToUpper(field.name))+":"+field.good[0]+"}", TypeInvalidArgument, strings.ToUpper(field.name))
		}
		f.refused(t, method, path, `{"frob":1}`, TypeInvalidArgument, "frob")
		f.refused(t, method, path, `{"frob":null}`, TypeInvalidArgument, "frob")
		f.refused(t, method, path, `{"":1}`, TypeInvalidArgument, "of that name")
		f.refused(t, method, path, `{"`+madeSecret+`":1}`, TypeInvalidArgument, "of that name")
	}
}

// refused checks that a body is a 400 of a type, whose message holds a text.
func (f *fixture) refused(t *testing.T, method, path, body, kind, text string) {
	t.Helper()
	w := f.do(t, method, path, body)
	got, message := problemIn(t, w)
	if w.Code != 400 || got != kind || !strings.Contains(message, text) {
		t.Errorf("%s %s with %s is answered %d %s", method, path, short(body), w.Code, w.Body)
	}
	if calls := f.clients.take(); calls != "" {
		t.Errorf("%s %s with %s was carried out", method, path, short(body))
	}
}

func short(s string) string { return s[:min(len(s), 100)] }

// TestBodies: whatever is wrong with a body as a whole.
func TestBodies(t *testing.T) {
	nested := func(depth int) string {
		return `{"trusted_metadata":` + strings.Repeat(`{"a":`, depth-1) + "1" + strings.Repeat("}", depth-1) + "}"
	}
	for name, test := range map[string]struct {
		body    string
		headers []string
		want    string
	}{
		"no body":                  {"", nil, "400 bad_request no_body"},
		"white space":              {" ", nil, "400 bad_request malformed_json"},
		"null":                     {"null", nil, "400 bad_request malformed_json"},
		"an array":                 {"[]", nil, "400 bad_request malformed_json"},
		"a string":                 {`"a"`, nil, "400 bad_request malformed_json"},
		"cut short":                {`{"client_name":"a"`, nil, "400 bad_request malformed_json"},
		"more behind":              {`{}{}`, nil, "400 bad_request malformed_json"},
		"a comma behind":           {`{"client_name":"a",}`, nil, "400 bad_request malformed_json"},
		"not UTF-8":                {"{\"client_name\":\"\xff\"}", nil, "400 bad_request malformed_json"},
		"byte order mark":          {"\ufeff{}", nil, "400 bad_request malformed_json"},
		"raw control":              {"{\"client_name\":\"a\nb\"}", nil, "400 bad_request malformed_json"},
		"not a number":             {`{"trusted_metadata":{"a":NaN}}`, nil, "400 bad_request malformed_json"},
		"too large a number":       {`{"trusted_metadata":{"a":1e999}}`, nil, "400 bad_request number"},
		"half a pair":              {`{"client_name":"\ud83d"}`, nil, "400 bad_request half_pair"},
		"the other half":           {`{"client_name":"\ude00\ud83d"}`, nil, "400 bad_request half_pair"},
		"half a pair, deep":        {`{"trusted_metadata":{"a":[{"\\\ud83dx":1}]}}`, nil, "400 bad_request half_pair"},
		"name twice, deep":         {`{"trusted_metadata":{"a":[{"b":1,"c":{"b":1},"\u0062":2}]}}`, nil, "400 bad_request repeated_name"},
		"deep enough":              {nested(32), nil, "200 ok "},
		"too deep":                 {nested(33), nil, "400 bad_request too_deep"},
		"very deep":                {strings.Repeat("[", maxBody), nil, "400 bad_request malformed_json"},
		"as large as may be":       {`{}` + strings.Repeat(" ", maxBody-2), nil, "200 ok "},
		"too large":                {`{}` + strings.Repeat(" ", maxBody-1), nil, "413 bad_request too_large"},
		"escaped backslash":        {`{"client_name":"\\ud83d\\"}`, nil, "200 ok "},
		"no content type":          {`{}`, []string{}, "415 bad_request content_type"},
		"two content types":        {`{}`, []string{"Content-Type", "application/json", "Content-Type", "application/json"}, "415 bad_request content_type"},
		"a form":                   {`{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, "415 bad_request content_type"},
		"another JSON":             {`{}`, []string{"Content-Type", "application/json-patch+json"}, "415 bad_request content_type"},
		"malformed content type":   {`{}`, []string{"Content-Type", "application/json;;"}, "415 bad_request content_type"},
		"another charset":          {`{}`, []string{"Content-Type", "application/json; charset=utf-16"}, "415 bad_request content_type"},
		"capitals and the charset": {`{}`, []string{"Content-Type", "Application/JSON; Charset=UTF-8"}, "200 ok "},
		"compressed":               {`{}`, []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, "415 bad_request content_encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			if test.headers != nil {
				test.headers = append(test.headers, "Authorization", basic(projectID, projectSecret))
			}
			w := f.do(t, "POST", "/v1/m2m/clients", test.body, test.headers...)
			lines := f.audited(t)
			line := lines[len(lines)-1]
			if got := fmt.Sprint(w.Code, " ", line["outcome"], " ", line["reason"]); got != test.want {
				t.Errorf("it is %q, not %q: %s", got, test.want, w.Body)
			}
			if w.Code != 200 {
				problemIn(t, w)
			}
		})
	}
	f := newFixture(t, nil)
	if w := f.do(t, "DELETE", clientPath, strings.Repeat(" ", maxBody+1)); w.Code != 413 || w.Header().Get("Connection") != "close" {
		t.Errorf("a body that is too large to be passed by is answered %d %v", w.Code, w.Header())
	}
}

// FuzzBody: whatever the body, the answer is JSON with what the SDKs expect, and never an
// error of this side. What is taken was valid JSON without a name that comes twice.
func FuzzBody(f *testing.F) {
	calls := []string{"POST /v1/m2m/clients", "POST /v1/m2m/clients/search", "PUT " + clientPath, "POST " + clientPath + "/secrets/rotate", "DELETE " + clientPath}
	for i, call := range calls {
		for _, field := range fields()[call] {
			for _, value := range append(field.good, field.bad...) {
				f.Add(i, []byte("{"+quoted(field.name)+":"+value+"}"))
			}
		}
		f.Add(i, []byte(`{"trusted_metadata":{"a":[{"b":1,"c":{"b":1},"\u0062":2}],"\ud83d":1e999}}`))
	}
	x := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		method, path, _ := strings.Cut(calls[uint(i)%uint(len(calls))], " ")
		w := x.do(t, method, path, string(body))
		x.audit.take()
		x.clients.take()
		x.log.Reset()
		if w.Code >= 500 {
			t.Fatalf("%q is answered %s", body, w.Body)
		}
		if w.Code != 200 {
			problemIn(t, w)
			return
		}
		checkHeaders(t, w)
		if method != "DELETE" && len(body) > 0 && !json.Valid(body) {
			t.Fatalf("%q was taken", body)
		}
	})
}

// FuzzObject: what is read is what encoding/json reads, and survives being written again.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1.50,"b":[null,"\ud83d\ude00",{"c":{}}]}`, `{"a":1,"\u0061":2}`, `{"\ud83d":1}`, `{"a":1e999}`, `{"a\\ud83d":1}`, `[]`, `{} {}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		object, err := parseObject(body)
		var theirs map[string]any
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err != nil {
			return
		}
		if decoder.Decode(&theirs) != nil || len(theirs) != len(object) {
			t.Fatalf("%q was read as %s", body, object)
		}
		again, err := encodeJSON(object)
		if err != nil {
			t.Fatal(err)
		}
		if once, err := parseObject(again); err != nil || len(once) != len(object) {
			t.Fatalf("%q was written as %q, and read as %s, %v", body, again, once, err)
		}
	})
}

// FuzzRoute: every path and method is answered with JSON, and never by an error of this side.
// A client's id arrives unescaped once.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{"/v1/m2m/clients", clientPath, "/v1/m2m/clients/a%2Fb/secrets/rotate", "/v1/m2m/clients/%252e%252e", "/v1/m2m/clients//secrets/rotate/start", "/v1/m2m/clients/\u00e9", "/v1/m2m/clients/search/", "/v1/m2m/clients/%zz"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD"} {
			f.Add(method, path)
		}
	}
	x := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, method, path string) {
		request, err := http.NewRequest(method, "http://h"+path, http.NoBody)
		if err != nil || !strings.HasPrefix(path, "/") {
			return // net/http answers
		}
		w := x.do(t, method, request.URL.RequestURI(), "")
		x.audit.take()
		calls := x.clients.take()
		if w.Code >= 500 {
			t.Fatalf("%q is answered %s", path, w.Body)
		}
		checkHeaders(t, w)
		if id, only := strings.CutPrefix(request.URL.EscapedPath(), "/v1/m2m/clients/"); only && method == "GET" && calls != "" {
			if want := "Get [" + quoted(strings.TrimPrefix(request.URL.Path, "/v1/m2m/clients/")) + "]"; calls != want || strings.Contains(id, "/") {
				t.Fatalf("%q was understood as %s, not %s", path, calls, want)
			}
		}
	})
}
