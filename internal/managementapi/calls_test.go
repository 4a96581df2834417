package managementapi

import (
	"strings"
	"testing"
)

const (
	testID = `"request_id":"request-id-test-00000000-0000-4000-8000-000000000000"`

	shownRest   = `"client_name":"Billing <\"service\">","client_description":"Charges cards","status":"active","scopes":["read:users"],"client_secret_last_four":"xx8F","next_client_secret_last_four":null,"trusted_metadata":{"tier":{"n":1.50,"big":12345678901234567890}}}`
	shownClient = `{"client_id":"` + clientID + `",` + shownRest
)

// TestCalls: each call as the SDKs make it arrives as it is meant, and is answered with
// exactly what they read.
func TestCalls(t *testing.T) {
	const ok = `{"status_code":200,` + testID + `,`
	full := `{"client_id":"billing-eu","client_secret":"` + chosenSecret + `","client_name":"Billing","client_description":"a\tb\r\nc","scopes":["read:users","write:*"],"trusted_metadata":{"n": 1.0, "gone":null,"deep":{"a":[null, "\ud83d\ude00"]}}}`
	inactive := strings.Replace(shownClient, `"active"`, `"inactive"`, 1)
	started := `{"client_id":"` + clientID + `","next_client_secret":"` + madeSecret + `",` + strings.Replace(shownRest, `four":null`, `four":"N3xt"`, 1)
	nothing := `{"Name":null,"Description":null,"Active":null,"Scopes":null,"TrustedMetadata":null}`
	for name, test := range map[string]struct {
		method, path, body string
		call               string // to the cluster side
		answer             string
	}{
		"create":       {"POST", "/v1/m2m/clients", `{}`, `Create [{"ID":"","Secret":"","Name":"","Description":"","Scopes":null,"TrustedMetadata":null}]`, ok + `"m2m_client":{"client_id":"` + clientID + `","client_secret":"` + madeSecret + `",` + shownRest + `}`},
		"create, full": {"POST", "/v1/m2m/clients/", full, `Create [{"ID":"billing-eu","Secret":"` + chosenSecret + `","Name":"Billing","Description":"a\tb\r\nc","Scopes":["read:users","write:*"],"TrustedMetadata":{"deep":{"a":[null,"\ud83d\ude00"]},"n":1.0}}]`, ok + `"m2m_client":{"client_id":"` + clientID + `","client_secret":"` + madeSecret + `",` + shownRest + `}`},
		"create, nulls": {"POST", "/v1/m2m/clients", `{"client_id":null,"client_secret":null,"client_name":null,"client_description":null,"scopes":null,"trusted_metadata":null}`,
			`Create [{"ID":"","Secret":"","Name":"","Description":"","Scopes":null,"TrustedMetadata":null}]`, ok + `"m2m_client":{"client_id":"` + clientID + `","client_secret":"` + madeSecret + `",` + shownRest + `}`},

		"get":               {"GET", clientPath, "", `Get ["` + clientID + `"]`, ok + `"m2m_client":` + shownClient + `}`},
		"get, as Python":    {"GET", clientPath + "?client_id=" + clientID, "", `Get ["` + clientID + `"]`, ok + `"m2m_client":` + shownClient + `}`},
		"get, escaped":      {"GET", "/v1/m2m/clients/%6d%2F%25%61", "", `Get ["m/%a"]`, ok + `"m2m_client":` + shownClient + `}`},
		"get search":        {"GET", "/v1/m2m/clients/search", "", `Get ["search"]`, ok + `"m2m_client":` + shownClient + `}`},
		"get dots":          {"GET", "/v1/m2m/clients/%2E%2e", "", `Get [".."]`, ok + `"m2m_client":` + shownClient + `}`},
		"delete":            {"DELETE", clientPath, "", `Delete ["` + clientID + `"]`, ok + `"client_id":"` + clientID + `"}`},
		"delete, with body": {"DELETE", clientPath, `{}`, `Delete ["` + clientID + `"]`, ok + `"client_id":"` + clientID + `"}`},
		"delete, odd body":  {"DELETE", clientPath, "\xff{", `Delete ["` + clientID + `"]`, ok + `"client_id":"` + clientID + `"}`},

		"update, nothing": {"PUT", clientPath, `{}`, `Update ["` + clientID + `",` + nothing + `]`, ok + `"m2m_client":` + inactive + `}`},
		"update, nulls":   {"POST", clientPath, `{"client_id":null,"client_name":null,"client_description":null,"scopes":null,"trusted_metadata":null,"status":null}`, `Update ["` + clientID + `",` + nothing + `]`, ok + `"m2m_client":` + inactive + `}`},
		"update, full": {"POST", clientPath, `{"client_id":"` + clientID + `","client_name":"B","client_description":"","status":"inactive","scopes":[],"trusted_metadata":{"a":1,"b":null}}`,
			`Update ["` + clientID + `",{"Name":"B","Description":"","Active":false,"Scopes":[],"TrustedMetadata":{"a":1,"b":null}}]`, ok + `"m2m_client":` + inactive + `}`},
		"update search": {"PUT", "/v1/m2m/clients/search", `{"status":"active"}`, `Update ["search",{"Name":null,"Description":null,"Active":true,"Scopes":null,"TrustedMetadata":null}]`, ok + `"m2m_client":` + inactive + `}`},

		"start":           {"POST", clientPath + "/secrets/rotate/start", `{}`, `StartRotation ["` + clientID + `"]`, ok + `"m2m_client":` + started + `}`},
		"rotate":          {"POST", clientPath + "/secrets/rotate", ``, `Rotate ["` + clientID + `"]`, ok + `"m2m_client":` + shownClient + `}`},
		"cancel":          {"POST", clientPath + "/secrets/rotate/cancel", `{"client_id":"` + clientID + `"}`, `CancelRotation ["` + clientID + `"]`, ok + `"m2m_client":` + shownClient + `}`},
		"rotate, of many": {"POST", "/v1/m2m/clients/a%2Fb/secrets/rotate", `{"client_id":"a/b"}`, `Rotate ["a/b"]`, ok + `"m2m_client":` + shownClient + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			w := f.do(t, test.method, test.path, test.body)
			if w.Code != 200 || w.Body.String() != test.answer {
				t.Errorf("the answer is %d\n%s, not\n%s", w.Code, w.Body, test.answer)
			}
			if got := f.clients.take(); got != test.call {
				t.Errorf("the call is\n%s, not\n%s", got, test.call)
			}
			checkHeaders(t, w)
			want := "42/apis"
			if test.method == "GET" {
				want = ""
			}
			if got := w.Header().Get(VersionHeader); got != want {
				t.Errorf("the version is %q, not %q", got, want)
			}
		})
	}
}

// TestSearches: what is asked for arrives, and the answer has no null where SDKs expect
// a list.
func TestSearches(t *testing.T) {
	const all = `"Query":{"Any":false,"Operands":null}}]`
	for body, want := range map[string]string{
		``:             `Search [{"Cursor":"","Limit":100,` + all,
		`{}`:           `Search [{"Cursor":"","Limit":100,` + all,
		`{"query":{}}`: `Search [{"Cursor":"","Limit":100,` + all,
		`{"limit":1}`:  `Search [{"Cursor":"","Limit":1,` + all,
		`{"query":null,"limit":1000,"cursor":"abc"}`: `Search [{"Cursor":"abc","Limit":1000,` + all,
		`{"query":{"operator":"OR","operands":[]}}`:  `Search [{"Cursor":"","Limit":100,"Query":{"Any":true,"Operands":null}}]`,
		`{"query":{"operands":[{"filter_name":"scopes","filter_value":["a","b"]},{"filter_name":"client_name","filter_value":[""]}]}}`: `Search [{"Cursor":"","Limit":100,"Query":{"Any":false,"Operands":[{"Field":"scopes","Values":["a","b"]},{"Field":"client_name","Values":[""]}]}}]`,
	} {
		f := newFixture(t, nil)
		w := f.do(t, "POST", "/v1/m2m/clients/search", body)
		if got := f.clients.take(); got != want {
			t.Errorf("%s is\n%s, not\n%s", body, got, want)
		}
		if want := `{"status_code":200,` + testID + `,"m2m_clients":[],"results_metadata":{"total":0,"next_cursor":null}}`; w.Body.String() != want {
			t.Errorf("%s is answered\n%s, not\n%s", body, w.Body, want)
		}
	}
	f := newFixture(t, nil)
	f.clients.page = Page{Clients: []Client{aClient(), {ID: "bare"}}, Total: 7, NextCursor: "more"}
	w := f.do(t, "POST", "/v1/m2m/clients/search", `{}`)
	bare := `{"client_id":"bare","client_name":"","client_description":"","status":"inactive","scopes":[],"client_secret_last_four":"","next_client_secret_last_four":null,"trusted_metadata":{}}`
	if want := `{"status_code":200,` + testID + `,"m2m_clients":[` + shownClient + `,` + bare + `],"results_metadata":{"total":7,"next_cursor":"more"}}`; w.Body.String() != want {
		t.Errorf("the answer is\n%s, not\n%s", w.Body, want)
	}
	if line := f.audited(t)[0]; line["found"] != 7.0 || line["action"] != "search" || line["client_id"] != "" {
		t.Errorf("the audit line is %v", line)
	}
}

// TestRoutes: paths that name nothing, and methods that there aren't, once it is known
// who asks.
func TestRoutes(t *testing.T) {
	f := newFixture(t, nil)
	for path, want := range map[string]string{
		"/":                                           "POST 404 route_not_found",
		"/v1/m2m":                                     "POST 404 route_not_found",
		"/v1/m2m/":                                    "POST 404 route_not_found",
		"/v1/m2m/client":                              "POST 404 route_not_found",
		"/v1/m2m/clients%2F":                          "POST 404 route_not_found",
		"/v1/m2m/%63lients":                           "POST 404 route_not_found",
		"//v1/m2m/clients":                            "POST 404 route_not_found",
		"/v1/m2m/clients//":                           "POST 404 route_not_found",
		clientPath + "/":                              "PUT 404 route_not_found",
		clientPath + "/secrets":                       "POST 404 route_not_found",
		clientPath + "/secrets/rotate/":               "POST 404 route_not_found",
		clientPath + "/secrets%2Frotate":              "POST 404 route_not_found",
		clientPath + "/secrets/rotate/start/x":        "POST 404 route_not_found",
		"/v1/m2m/clients/../clients/x":                "GET 404 route_not_found",
		"/v1/m2m/clients//secrets/rotate":             "POST 404 m2m_client_not_found",
		"/v1/m2m/clients/%F0%9F%98%80":                "GET 404 m2m_client_not_found",
		"/v1/m2m/clients/caf%C3%A9":                   "DELETE 404 m2m_client_not_found",
		"/v1/m2m/clients/a%00b":                       "PUT 404 m2m_client_not_found",
		"/v1/m2m/clients/a%20b":                       "POST 404 m2m_client_not_found",
		"/v1/m2m/clients/%FF":                         "GET 404 m2m_client_not_found",
		"/v1/m2m/clients/" + strings.Repeat("a", 257): "GET 404 m2m_client_not_found",
		"/v1/m2m/clients":                             "GET 405 method_not_allowed POST",
		"/v1/m2m/clients/":                            "DELETE 405 method_not_allowed POST",
		"/v1/m2m/clients/search":                      "PATCH 405 method_not_allowed GET, PUT, POST, DELETE",
		clientPath:                                    "HEAD 405 method_not_allowed GET, PUT, POST, DELETE",
		clientPath + "?a":                             "OPTIONS 405 method_not_allowed GET, PUT, POST, DELETE",
		clientPath + "?b":                             "FROB 405 method_not_allowed GET, PUT, POST, DELETE",
		clientPath + "/secrets/rotate":                "GET 405 method_not_allowed POST",
		clientPath + "/secrets/rotate/start":          "PUT 405 method_not_allowed POST",
		clientPath + "/secrets/rotate/cancel":         "DELETE 405 method_not_allowed POST",
	} {
		method, rest, _ := strings.Cut(want, " ")
		w := f.do(t, method, path, `{}`)
		kind, _ := problemIn(t, w)
		got := strings.TrimSpace(strings.Join([]string{httpStatus(w.Code), kind, w.Header().Get("Allow")}, " "))
		if got != rest {
			t.Errorf("%s %s is answered %q, not %q", method, path, got, rest)
		}
	}
	if calls := f.clients.take(); calls != "" {
		t.Errorf("calls were made: %s", calls)
	}
}
