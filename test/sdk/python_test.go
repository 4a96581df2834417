package sdk

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/golang-jwt/jwt/v5"
)

// Stytch's SDK for Python, as its release 13.17 sends and reads. Its sources say more than
// its documents: each of its calls has one dictionary of arguments, which fills the path,
// and is then the query of a GET, the body of a POST or PUT, and nothing of a DELETE.

// model is what one of its pydantic models requires: each field, and the type that it is
// checked to have. A `?` is Optional. Fields that it doesn't know are ignored.
type model map[string]any

type list struct{ of any }

// nullable fields must be there, but may be null; optional ones may also be absent.
const (
	aString        = "str"
	anInteger      = "int"
	nullableString = "str or null"
	optionalString = "str?"
	optionalObject = "dict?"
)

var (
	pythonClient = model{
		"client_id": aString, "client_name": aString, "client_description": aString, "status": aString,
		"scopes": list{aString}, "client_secret_last_four": aString,
		"trusted_metadata": optionalObject, "next_client_secret_last_four": optionalString,
	}
	pythonAnswer = model{"status_code": anInteger, "request_id": aString}
	oneClient    = pythonAnswer.with("m2m_client", pythonClient)
	pythonToken  = pythonAnswer.with("access_token", aString).with("token_type", aString).with("expires_in", anInteger)
	// Its errors have these under either of two names, and must have each.
	pythonError  = pythonAnswer.with("error_type", nullableString).with("error_message", aString).with("error_url", nullableString)
	errorAliases = map[string]string{"error_type": "error", "error_message": "error_description", "error_url": "error_uri"}
)

func (m model) with(field string, kind any) model {
	m = maps.Clone(m)
	m[field] = kind
	return m
}

// pythonCalls are its calls.
var pythonCalls = map[string]struct {
	method, path string
	answer       model
}{
	"m2m.token":           {http.MethodPost, "/v1/public/{project_id}/oauth2/token", pythonToken},
	"create":              {http.MethodPost, "/v1/m2m/clients", pythonAnswer.with("m2m_client", pythonClient.with("client_secret", aString))},
	"get":                 {http.MethodGet, "/v1/m2m/clients/{client_id}", oneClient},
	"update":              {http.MethodPut, "/v1/m2m/clients/{client_id}", oneClient},
	"delete":              {http.MethodDelete, "/v1/m2m/clients/{client_id}", pythonAnswer.with("client_id", aString)},
	"secrets.rotateStart": {http.MethodPost, "/v1/m2m/clients/{client_id}/secrets/rotate/start", pythonAnswer.with("m2m_client", pythonClient.with("next_client_secret", aString))},
	"secrets.rotate":      {http.MethodPost, "/v1/m2m/clients/{client_id}/secrets/rotate", oneClient},
	"secrets.cancel":      {http.MethodPost, "/v1/m2m/clients/{client_id}/secrets/rotate/cancel", oneClient},
	"search": {http.MethodPost, "/v1/m2m/clients/search", pythonAnswer.with("m2m_clients", list{pythonClient}).
		with("results_metadata", model{"total": anInteger, "next_cursor": optionalString})},
}

// arguments are those of a call.
type arguments map[string]any

// object is an answer.
type object map[string]any

func (o object) text(field string) string { s, _ := o[field].(string); return s }

func (o object) object(field string) object { m, _ := o[field].(map[string]any); return m }

// client is the client in an answer.
func (o object) client() object { return o.object("m2m_client") }

// pythonSDK makes its calls.
type pythonSDK struct{ project }

// call is for calls that succeed.
func (p pythonSDK) call(t *testing.T, name string, args arguments) object {
	t.Helper()
	status, answer := p.send(t, name, args)
	if status >= 400 {
		t.Fatalf("%s: HTTP %d: %v", name, status, answer)
	}
	if wrong := misfits(map[string]any(answer), pythonCalls[name].answer, name); len(wrong) > 0 {
		t.Fatalf("%s: its model refuses %s", name, strings.Join(wrong, ", "))
	}
	return answer
}

// fails is for calls that don't. It returns the type of the error.
func (p pythonSDK) fails(t *testing.T, name string, args arguments, statuses ...int) string {
	t.Helper()
	status, answer := p.send(t, name, args)
	if !slices.Contains(statuses, status) {
		t.Fatalf("%s: HTTP %d: %v; want %d", name, status, answer, statuses)
	}
	for field, alias := range errorAliases {
		if value, ok := answer[alias]; ok && answer[field] == nil {
			answer[field] = value
		}
	}
	if wrong := misfits(map[string]any(answer), pythonError, "error"); len(wrong) > 0 {
		t.Fatalf("%s: its model of errors refuses %s", name, strings.Join(wrong, ", "))
	}
	return answer.text("error_type")
}

func (p pythonSDK) send(t *testing.T, name string, args arguments) (int, object) {
	t.Helper()
	c, known := pythonCalls[name]
	if !known {
		t.Fatalf("there is no call %q", name)
	}
	path := strings.ReplaceAll(c.path, "{project_id}", p.id)
	if id, ok := args["client_id"].(string); ok {
		path = strings.ReplaceAll(path, "{client_id}", id)
	}
	var body io.Reader
	switch c.method {
	case http.MethodGet:
		path += "?" + url.Values{"client_id": {args["client_id"].(string)}}.Encode()
	case http.MethodPost, http.MethodPut:
		body = strings.NewReader(pythonJSON(t, args))
	}
	request, err := http.NewRequestWithContext(t.Context(), c.method, p.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(p.id, p.secret)
	request.Header.Set("Content-Type", "application/json") // with a body or without
	request.Header.Set("User-Agent", "Stytch Python v13.17.1")
	request.Header.Set("Accept", "*/*")
	request.Header.Set("Accept-Encoding", "gzip, deflate")
	response, err := web.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, readJSON(t, response)
}

// readJSON reads an answer. Its asynchronous client (aiohttp) takes no other content type.
func readJSON(t *testing.T, response *http.Response) object {
	t.Helper()
	decoder := json.NewDecoder(response.Body)
	decoder.UseNumber()
	var answer object
	if err := decoder.Decode(&answer); err != nil {
		t.Fatalf("HTTP %d: %v", response.StatusCode, err)
	}
	if kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); kind != "application/json" {
		t.Fatalf("content type %q", kind)
	}
	return answer
}

// pythonJSON is JSON as Python writes it: all that isn't ASCII is escaped.
func pythonJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// misfits tells what of a value a model would refuse.
func misfits(value, kind any, at string) []string {
	switch kind := kind.(type) {
	case model:
		fields, ok := value.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %v is no object", at, value)}
		}
		var wrong []string
		for _, field := range slices.Sorted(maps.Keys(kind)) {
			v, present := fields[field]
			if optional := kind[field] == optionalString || kind[field] == optionalObject; !present && !optional {
				wrong = append(wrong, at+"."+field+": it is missing")
			} else if present {
				wrong = append(wrong, misfits(v, kind[field], at+"."+field)...)
			}
		}
		return wrong
	case list:
		items, ok := value.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %v is no list", at, value)}
		}
		var wrong []string
		for n, item := range items {
			wrong = append(wrong, misfits(item, kind.of, fmt.Sprintf("%s[%d]", at, n))...)
		}
		return wrong
	}
	if !fits(value, kind) {
		return []string{fmt.Sprintf("%s: %v is no %v", at, value, kind)}
	}
	return nil
}

func fits(value, kind any) bool {
	switch kind {
	case nullableString, optionalString, optionalObject:
		if value == nil {
			return true
		}
	}
	switch value := value.(type) {
	case string:
		return kind == aString || kind == nullableString || kind == optionalString
	case json.Number:
		_, err := value.Int64()
		return kind == anInteger && err == nil
	case map[string]any:
		return kind == optionalObject
	}
	return false
}

// authenticate is what authenticate_token does: PyJWT with RS256 alone, no leeway, the
// project as audience, and all these claims required.
func (p pythonSDK) authenticate(t *testing.T, token string, required ...string) (clientID string, scopes []string, custom map[string]any, err error) {
	t.Helper()
	keys := p.keys(t, "/v1/sessions/jwks/")
	claims := jwt.MapClaims{}
	_, err = jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithLeeway(0), jwt.WithAudience(p.id),
		jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(),
	).ParseWithClaims(token, claims, func(token *jwt.Token) (any, error) { return pyJWK(keys, token) })
	if err != nil {
		return "", nil, nil, err
	}
	for _, claim := range []string{"aud", "iss", "exp", "iat", "nbf"} {
		if claims[claim] == nil {
			return "", nil, nil, fmt.Errorf("the claim %s is missing", claim)
		}
	}
	if iss := claims["iss"]; iss != "stytch.com/"+p.id && iss != strings.TrimRight(p.url, "/") {
		return "", nil, nil, fmt.Errorf("the issuer is %v", iss)
	}
	scope, ok := claims["scope"].(string) // a KeyError or AttributeError without
	sub, isString := claims["sub"].(string)
	if !ok || !isString {
		return "", nil, nil, fmt.Errorf("claims %v", claims)
	}
	maps.DeleteFunc(claims, func(name string, _ any) bool {
		return slices.Contains([]string{"aud", "exp", "iat", "iss", "jti", "nbf", "sub", "scope"}, name)
	})
	scopes = strings.Fields(scope)
	if !authorized(scopes, required...) {
		return "", nil, nil, fmt.Errorf("scopes %q don't allow %q", scopes, required)
	}
	return sub, scopes, claims, nil
}

// pyJWK finds the key that a token names, as PyJWKClient does.
func pyJWK(keys []jwk, token *jwt.Token) (any, error) {
	for _, k := range keys {
		if k.KeyID != "" && k.KeyID == token.Header["kid"] && (k.Use == "" || k.Use == "sig") {
			return k.public()
		}
	}
	return nil, fmt.Errorf("no signing key %v", token.Header["kid"])
}

// The guide, by the requests of Stytch's SDK for Python, for an issuer that signs by RS256.
func TestPythonRequests(t *testing.T) {
	t.Parallel()
	p := pythonSDK{python}
	name := "python " + rand.Text()
	created := p.call(t, "create", arguments{
		"scopes": []string{"read:users", "write:*"}, "client_name": name, "client_description": "zahlt 12 € 🌙",
		"trusted_metadata": map[string]any{"tier": "gold", "goes": true},
	}).client()
	id, secret := created.text("client_id"), created.text("client_secret")
	if created.text("client_description") != "zahlt 12 € 🌙" || created.text("client_name") != name {
		t.Errorf("created %v", created)
	}
	if got := p.call(t, "get", arguments{"client_id": id}).client(); got.text("client_secret") != "" || got.text("client_name") != name {
		t.Errorf("got %v", got)
	}
	p.checkTokens(t, id, secret)

	updated := p.call(t, "update", arguments{"client_id": id, "status": "inactive", "trusted_metadata": map[string]any{"goes": nil}}).client()
	if metadata := updated.object("trusted_metadata"); updated.text("status") != "inactive" || len(metadata) != 1 || metadata.text("tier") != "gold" {
		t.Errorf("updated %v", updated)
	}
	p.refuses(t, id, secret)
	p.call(t, "update", arguments{"client_id": id, "status": "active"})
	p.checkRotation(t, id, secret)
	p.checkSearch(t, name, id)

	p.call(t, "delete", arguments{"client_id": id})
	for _, call := range []string{"get", "update", "delete", "secrets.rotateStart", "secrets.rotate", "secrets.cancel"} {
		if kind := p.fails(t, call, arguments{"client_id": id}, http.StatusNotFound); kind != "m2m_client_not_found" {
			t.Errorf("%s: error_type %q", call, kind)
		}
	}
	p.fails(t, "create", arguments{"scopes": []string{}, "client_secret": "password1"}, http.StatusBadRequest)
	p.secret = "secret-test-wrong"
	if kind := p.fails(t, "search", arguments{}, http.StatusUnauthorized); kind != "unauthorized_credentials" {
		t.Errorf("error_type %q", kind)
	}
}

// token is what its token call sends: the client in the body, the project beside it.
func (p pythonSDK) token(id, secret string, scopes ...string) arguments {
	args := arguments{"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
	if len(scopes) > 0 {
		args["scope"] = strings.Join(scopes, " ")
	}
	return args
}

func (p pythonSDK) refuses(t *testing.T, id, secret string) {
	t.Helper()
	if kind := p.fails(t, "m2m.token", p.token(id, secret), http.StatusUnauthorized); kind != "invalid_client" {
		t.Errorf("error_type %q", kind)
	}
}

func (p pythonSDK) checkTokens(t *testing.T, id, secret string) {
	t.Helper()
	token := p.call(t, "m2m.token", p.token(id, secret)).text("access_token")
	sub, scopes, custom, err := p.authenticate(t, token, "read:users", "write:books")
	if err != nil || sub != id || len(scopes) != 2 || len(custom) != 0 {
		t.Errorf("client id %q, scopes %q, custom claims %v, %v", sub, scopes, custom, err)
	}
	if _, _, _, err := p.authenticate(t, token, "delete:users"); err == nil {
		t.Error("a scope that isn't held is authorized")
	}
	token = p.call(t, "m2m.token", p.token(id, secret, "read:users")).text("access_token")
	if _, scopes, _, err := p.authenticate(t, token); err != nil || !slices.Equal(scopes, []string{"read:users"}) {
		t.Errorf("scopes %q, %v", scopes, err)
	}
	if kind := p.fails(t, "m2m.token", p.token(id, secret, "delete:users"), http.StatusBadRequest); kind != "invalid_scope" {
		t.Errorf("error_type %q", kind)
	}
}

func (p pythonSDK) checkRotation(t *testing.T, id, secret string) {
	t.Helper()
	client := arguments{"client_id": id}
	dropped := p.call(t, "secrets.rotateStart", client).client().text("next_client_secret")
	p.call(t, "m2m.token", p.token(id, dropped))
	p.call(t, "secrets.cancel", client)
	p.refuses(t, id, dropped)

	next := p.call(t, "secrets.rotateStart", client).client().text("next_client_secret")
	p.call(t, "m2m.token", p.token(id, next))
	p.call(t, "m2m.token", p.token(id, secret))
	if rotated := p.call(t, "secrets.rotate", client).client(); rotated["next_client_secret_last_four"] != nil || !strings.HasSuffix(next, rotated.text("client_secret_last_four")) {
		t.Errorf("rotated %v", rotated)
	}
	p.call(t, "m2m.token", p.token(id, next))
	p.refuses(t, id, secret)
}

// checkSearch finds two clients of one name on two pages.
func (p pythonSDK) checkSearch(t *testing.T, name, id string) {
	t.Helper()
	other := p.call(t, "create", arguments{"scopes": []string{}, "client_name": name}).client().text("client_id")
	query := map[string]any{"operator": "AND", "operands": []any{map[string]any{"filter_name": "client_name", "filter_value": []string{name}}}}
	args := arguments{"limit": 1, "query": query}
	var found []string
	for range 3 {
		page := p.call(t, "search", args)
		if total := page.object("results_metadata")["total"]; total != json.Number("2") {
			t.Errorf("total %v", total)
		}
		for _, c := range page["m2m_clients"].([]any) {
			found = append(found, object(c.(map[string]any)).text("client_id"))
		}
		cursor, more := page.object("results_metadata")["next_cursor"].(string)
		if !more {
			break
		}
		args["cursor"] = cursor
	}
	want := []string{id, other}
	slices.Sort(found)
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	p.call(t, "delete", arguments{"client_id": other})
}

// The real SDK, where it is: nothing fetches it, because its registry can't be reached
// from everywhere that this test runs. What it sends is replayed above in any case.
func TestPythonSDK(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import stytch").CombinedOutput(); err != nil {
		t.Logf("Stytch's SDK for Python is not on this machine (pip install stytch): only its requests are replayed, by TestPythonRequests: %v %s", err, lastLine(out))
		return
	}
	execute(t, 3*time.Minute, "python", python, "python3", "guide.py")
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
