package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

const stytchSecret = "secret-test-the-secret-of-the-project"

// importFrom runs import-stytch against a server in Stytch's place. It records how long
// it was told to wait.
func importFrom(t *testing.T, serve http.HandlerFunc, change func(*importing)) (stdout, stderr string, waits []time.Duration, err error) {
	t.Helper()
	server := httptest.NewServer(serve)
	defer server.Close()
	t.Setenv("STYTCH_PROJECT_ID", "project-test-1")
	t.Setenv("STYTCH_SECRET", stytchSecret)
	var out, errs bytes.Buffer
	i := &importing{
		kube:     &kube{IOStreams: genericiooptions.IOStreams{Out: &out, ErrOut: &errs}, flags: genericclioptions.NewConfigFlags(false)},
		endpoint: endpoint{base: server.URL, timeout: 5 * time.Second},
		wait: func(_ context.Context, d time.Duration) error {
			waits = append(waits, d)
			return nil
		},
	}
	if change != nil {
		change(i)
	}
	err = i.run(t.Context())
	return out.String(), errs.String(), waits, err
}

// pages serves clients in pages, with cursors.
func pages(t *testing.T, all ...[]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		var query struct {
			Limit  int
			Cursor string
		}
		if err := json.NewDecoder(r.Body).Decode(&query); err != nil || r.URL.Path != "/v1/m2m/clients/search" || r.Method != http.MethodPost || query.Limit != importPage {
			t.Errorf("%s %s %+v %v", r.Method, r.URL, query, err)
		}
		if id != "project-test-1" || secret != stytchSecret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		n := 0
		if query.Cursor != "" {
			if _, err := fmt.Sscanf(query.Cursor, "page-%d", &n); err != nil {
				t.Error(err)
			}
		}
		next := "null"
		if n+1 < len(all) {
			next = fmt.Sprintf(`"page-%d"`, n+1)
		}
		fmt.Fprintf(w, `{"status_code":200,"m2m_clients":[%s],"results_metadata":{"total":3,"next_cursor":%s}}`, strings.Join(all[n], ","), next)
	}
}

func TestImport(t *testing.T) {
	first := []string{`{"client_id":"m2m-client-test-2","client_name":"Reports","status":"inactive","scopes":["read:x"],"trusted_metadata":{"tier":"a","n":12345678901234567,"b":true}}`}
	second := []string{
		`{"client_id":"m2m-client-test-1","client_name":"Billing","client_description":"Charges","status":"active","scopes":[],"trusted_metadata":null}`,
		first[0],
	}
	stdout, stderr, _, err := importFrom(t, pages(t, first, nil, second), nil)
	if err != nil {
		t.Fatal(err, stderr)
	}
	const want = `# client_id at Stytch: "m2m-client-test-1"
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  name: billing
spec:
  description: Charges
  displayName: Billing
---
# client_id at Stytch: "m2m-client-test-2"
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  name: reports
spec:
  displayName: Reports
  scopes:
  - read:x
  state: Inactive
  trustedMetadata:
    b: true
    "n": 12345678901234567
    tier: a
`
	if stdout != want {
		t.Errorf("got\n%s\nwant\n%s", stdout, want)
	}
	if !strings.Contains(stderr, "2 manifests") || !strings.Contains(stderr, "new secret") || strings.Contains(stdout+stderr, stytchSecret) {
		t.Error(stderr)
	}
}

func TestImportToFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clients")
	serve := pages(t, []string{`{"client_id":"i'd","client_name":"../../etc"}`})
	into := func(i *importing) { i.outputDir, i.manifests.fromSecrets = dir, true }
	stdout, stderr, _, err := importFrom(t, serve, into)
	file := filepath.Join(dir, "etc.yaml")
	if err != nil || stdout != file+"\n" {
		t.Fatal(stdout, err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "importFrom:\n      name: etc-stytch") {
		t.Errorf("%s %v", text, err)
	}
	for _, want := range []string{`--from-literal=client_id='i'\''d'`, "m2m-operator.dev/adopt=etc", "chosenClientIDs"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %s in %s", want, stderr)
		}
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := importFrom(t, serve, into); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Error(err)
	}
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("overwritten: %s", text)
	}
	if _, _, _, err := importFrom(t, serve, func(i *importing) { into(i); i.force = true }); err != nil {
		t.Error(err)
	}
}

// An API that is asked too much is asked again when it says.
func TestImportWaits(t *testing.T) {
	answers := []int{429, 503, 429, 200}
	n := 0
	serve := func(w http.ResponseWriter, r *http.Request) {
		status := answers[n]
		n++
		if status == http.StatusOK {
			pages(t, nil)(w, r)
			return
		}
		if n == 1 {
			w.Header().Set("Retry-After", "7")
		} else {
			w.Header().Set("Retry-After", "99999999999")
		}
		w.WriteHeader(status)
	}
	_, _, waits, err := importFrom(t, serve, nil)
	if want := []time.Duration{7 * time.Second, 4 * time.Second, 8 * time.Second}; err != nil || !slices.Equal(waits, want) {
		t.Errorf("%v, want %v: %v", waits, want, err)
	}
	_, _, waits, err = importFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}, nil)
	if err == nil || len(waits) != askings-1 || slices.Max(waits) != longestWait {
		t.Errorf("%v %v", waits, err)
	}
}

// A server that isn't Stytch's, or means harm, comes to an end, and learns nothing.
func TestImportHostile(t *testing.T) {
	body := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	n := 0
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"unauthorized":    {body(401, `{"error_type":"unauthorized_credentials","error_message":"`+stytchSecret+` \u001b[2J"}`), "Check the project id"},
		"not JSON":        {body(200, `<html>`), "not Stytch's API"},
		"another answer":  {body(200, `{}`), "not Stytch's API"},
		"clients of null": {body(200, `{"m2m_clients":null}`), "not Stytch's API"},
		"no id":           {body(200, `{"m2m_clients":[{}]}`), "no client_id"},
		"wrong types":     {body(200, `{"m2m_clients":[{"client_id":1}]}`), "not Stytch's API"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1", http.StatusTemporaryRedirect)
		}, "not followed"},
		"the same cursor": {body(200, `{"m2m_clients":[],"results_metadata":{"next_cursor":"a"}}`), "no end"},
		"cursors and none": {func(w http.ResponseWriter, r *http.Request) {
			n++
			body(200, fmt.Sprintf(`{"m2m_clients":[],"results_metadata":{"next_cursor":"%d"}}`, n))(w, r)
		}, "no end"},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), maxPageBytes+1))
		}, "more than"},
		"breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "can't reach"},
	} {
		stdout, stderr, _, err := importFrom(t, test.serve, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || stdout != "" {
			t.Errorf("%s: %v %s", name, err, stdout)
			continue
		}
		if all := stdout + stderr + err.Error(); strings.Contains(all, stytchSecret) || strings.Contains(all, "\x1b") {
			t.Errorf("%s: %q", name, all)
		}
	}
	slow := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't see that the caller left
		<-r.Context().Done()
	}
	if _, _, _, err := importFrom(t, slow, func(i *importing) { i.endpoint.timeout = 50 * time.Millisecond }); err == nil {
		t.Error("a slow server is waited for")
	}
}

func TestProject(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(" from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		id, secret string
		flags      importing
		want       string // URL and secret
		refused    string
	}{
		"test":              {"project-test-1", "s", importing{}, "https://test.stytch.com/v1/m2m/clients/search s", ""},
		"live, by a flag":   {"project-test-1", "s", importing{projectID: "project-live-1"}, "https://api.stytch.com/v1/m2m/clients/search s", ""},
		"a file":            {"project-live-1", "s", importing{secretFile: file}, "https://api.stytch.com/v1/m2m/clients/search from-file", ""},
		"ours":              {"p", "s", importing{endpoint: endpoint{base: "http://127.0.0.1:1/"}}, "http://127.0.0.1:1/v1/m2m/clients/search s", ""},
		"neither":           {"p", "s", importing{}, "", "--url"},
		"no id":             {"", "s", importing{}, "", "STYTCH_PROJECT_ID"},
		"no secret":         {"project-live-1", "", importing{}, "", "STYTCH_SECRET"},
		"in plain":          {"p", "s", importing{endpoint: endpoint{base: "http://auth.test"}}, "", "plain"},
		"a file that isn't": {"p", "s", importing{secretFile: file + "x"}, "", "--secret-file"},
	} {
		t.Setenv("STYTCH_PROJECT_ID", test.id)
		t.Setenv("STYTCH_SECRET", test.secret)
		p, err := test.flags.project()
		if err != nil && (test.refused == "" || !strings.Contains(err.Error(), test.refused)) || err == nil && test.refused != "" {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && p.search.String()+" "+p.secret != test.want {
			t.Errorf("%s: %s %s", name, p.search, p.secret)
		}
	}
}
