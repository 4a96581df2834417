package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func clientAt(tokenURL string) *v1alpha1.M2MClient {
	return &v1alpha1.M2MClient{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "billing"},
		Status: v1alpha1.M2MClientStatus{
			TokenURL: tokenURL, ClientID: "m2m-client-1", GrantedScopes: []string{"read:x", "write:x"},
			Effective: &v1alpha1.EffectiveClient{IssuerName: "default", Audiences: []string{"project-1"}},
		},
	}
}

const theSecret = "0123456789-the-secret"

// fetchFrom asks a token endpoint for a token with a secret.
func fetchFrom(ctx context.Context, e endpoint, c *v1alpha1.M2MClient) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.Status.ClientID}, "client_secret": {theSecret}}
	_, token, err := (&fetching{endpoint: e}).fetch(ctx, c, c.Status.TokenURL, form)
	return token, err
}

func TestFetch(t *testing.T) {
	var got *http.Request
	var form url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ := io.ReadAll(r.Body)
		form, _ = url.ParseQuery(string(body))
		fmt.Fprint(w, `{"access_token":"a.b.c","token_type":"bearer"}`)
	}))
	defer server.Close()
	token, err := fetchFrom(t.Context(), endpoint{timeout: time.Minute}, clientAt(server.URL+"/v1/public/p/oauth2/token"))
	if err != nil || token != "a.b.c" {
		t.Fatal(token, err)
	}
	if got.URL.String() != "/v1/public/p/oauth2/token" || got.Header.Get("Authorization") != "" || form.Get("client_secret") != theSecret {
		t.Errorf("%s %v", got.URL, form)
	}
}

// readsSecret answers every Get with a Secret.
type readsSecret struct {
	client.Client
	secret corev1.Secret
}

func (r readsSecret) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	*o.(*corev1.Secret) = r.secret
	return nil
}

// A secret goes to the endpoint that its Secret names: a status may be somebody's who wants it.
func TestSecretGoesWhereItBelongs(t *testing.T) {
	c := clientAt("https://evil.example.com/v1/public/p/oauth2/token")
	c.UID, c.Status.SecretName = "uid", "billing"
	s := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationClientUID: "uid"}},
		Data:       map[string][]byte{"client_secret": []byte(theSecret), "token_url": []byte("https://good.example.com/token")},
	}
	form, endpoint, err := (&fetching{}).credential(t.Context(), readsSecret{secret: s}, c)
	if err != nil || form.Get("client_secret") != theSecret || endpoint != "https://good.example.com/token" {
		t.Errorf("%v to %s, %v", form, endpoint, err)
	}
	delete(s.Data, "token_url")
	if _, _, err := (&fetching{}).credential(t.Context(), readsSecret{secret: s}, c); err == nil || !strings.Contains(err.Error(), `no key "token_url"`) {
		t.Errorf("a Secret that names none: %v", err)
	}
}

// What a token endpoint may answer, and what is made of it. A secret is never said again.
func TestFetchRefused(t *testing.T) {
	inactive := func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive }
	for name, test := range map[string]struct {
		status int
		header http.Header
		body   string
		change func(*v1alpha1.M2MClient)
		wants  []string
	}{
		"inactive":                   {401, nil, `{"error":"invalid_client","error_description":"client authentication failed","request_id":"request-id-1"}`, inactive, []string{"invalid_client", "client authentication failed", "request-id-1", "kubectl m2m activate -n shop billing"}},
		"wrong secret":               {401, nil, `{"error":"invalid_client"}`, nil, []string{"kubectl m2m get -n shop billing"}},
		"scope":                      {400, nil, `{"error":"invalid_scope"}`, nil, []string{"holds: read:x write:x"}},
		"target":                     {400, nil, `{"error":"invalid_target"}`, nil, []string{"audiences are: project-1"}},
		"too many":                   {429, http.Header{"Retry-After": {"7"}}, `{"error":"slow_down"}`, nil, []string{"in 7 s"}},
		"too many, and no word when": {429, nil, `{"error":"slow_down"}`, nil, []string{"later"}},
		"broken":                     {503, nil, `{"error":"temporarily_unavailable"}`, nil, []string{"describe clusterm2missuer default"}},
		"no OAuth":                   {404, nil, `<html>`, nil, []string{"answered 404", "check the URL"}},
		"a redirect":                 {307, http.Header{"Location": {"http://127.0.0.1:1/"}}, ``, nil, []string{"not followed"}},
		"200, no JSON":               {200, nil, `hello`, nil, []string{"not a token endpoint"}},
		"200, no token":              {200, nil, `{}`, nil, []string{"not a token endpoint"}},
		"a hostile token":            {200, nil, `{"access_token":"a\u001b[31m"}`, nil, []string{"not a token endpoint"}},
		"huge":                       {200, nil, strings.Repeat(" ", maxAnswer+1), nil, []string{"more than"}},
		"echo":                       {400, nil, `{"error":"invalid_request","error_description":"` + theSecret + ` \u001b[2J"}`, nil, []string{"[client_secret]"}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for key := range test.header {
				w.Header().Set(key, test.header.Get(key))
			}
			w.WriteHeader(test.status)
			fmt.Fprint(w, test.body)
		}))
		c := clientAt(server.URL + "/v1/public/p/oauth2/token")
		if test.change != nil {
			test.change(c)
		}
		_, err := fetchFrom(t.Context(), endpoint{timeout: time.Minute}, c)
		server.Close()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if text := err.Error(); strings.Contains(text, theSecret) || strings.Contains(text, "\x1b") {
			t.Errorf("%s: %q", name, text)
		}
		for _, want := range test.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %q", name, want, err)
			}
		}
	}
}

func TestFetchUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	_, err := fetchFrom(t.Context(), endpoint{timeout: time.Minute}, clientAt(server.URL+"/v1/public/p/oauth2/token"))
	if text := fmt.Sprint(orForward(err)); !strings.Contains(text, server.URL) || !strings.Contains(text, "kubectl port-forward") {
		t.Error(text)
	}

	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't see that the caller left
		<-r.Context().Done()
	}))
	defer hanging.Close()
	_, err = fetchFrom(t.Context(), endpoint{timeout: 50 * time.Millisecond}, clientAt(hanging.URL+"/t"))
	if err == nil || !strings.Contains(err.Error(), "can't reach") {
		t.Error(err)
	}
}

// Behind a port-forward a server has the certificate of its own name.
func TestFetchForwarded(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q}`, r.URL.Path)
	}))
	server.Config.ErrorLog = nil
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	var pem bytes.Buffer
	fmt.Fprintf(&pem, "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", base64.StdEncoding.EncodeToString(server.Certificate().Raw))
	if err := os.WriteFile(ca, pem.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// The certificate of httptest is for example.com and 127.0.0.1.
	for name, test := range map[string]struct{ tokenURL, caFile, want string }{
		"its name":         {"https://example.com/token", ca, ""},
		"another name":     {"https://auth.test/token", ca, "certificate"},
		"CA isn't trusted": {"https://example.com/token", "", "--ca-file"},
	} {
		token, err := fetchFrom(t.Context(), endpoint{base: server.URL, caFile: test.caFile, timeout: time.Minute}, clientAt(test.tokenURL))
		switch {
		case test.want == "" && (err != nil || token != "/token"):
			t.Errorf("%s: %q, %v", name, token, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRebase(t *testing.T) {
	for name, test := range map[string]struct{ base, want, host string }{
		"none":            {"", "https://auth.test/a/token", ""},
		"a forward":       {"https://127.0.0.1:8443", "https://127.0.0.1:8443/a/token", "auth.test"},
		"a slash":         {"http://[::1]:8443/", "http://[::1]:8443/a/token", "auth.test"},
		"a path":          {"https://x.test/b", "", ""},
		"a query":         {"https://x.test?b", "", ""},
		"in plain":        {"http://x.test", "", ""},
		"almost loopback": {"http://127.0.0.1.x.test", "", ""},
		"a user":          {"https://u:p@x.test", "", ""},
		"no URL":          {"x.test:443", "", ""},
	} {
		e := endpoint{base: test.base}
		to, host, err := e.rebase("https://auth.test/a/token")
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%s: %s", name, to)
		case test.want != "" && (err != nil || to.String() != test.want || host != test.host):
			t.Errorf("%s: %v %q %v", name, to, host, err)
		}
	}
}

func TestAccountOf(t *testing.T) {
	identities := func(names ...string) (all []v1alpha1.WorkloadIdentity) {
		for _, name := range names {
			all = append(all, v1alpha1.WorkloadIdentity{ServiceAccountName: name})
		}
		return all
	}
	none := &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
	for name, test := range map[string]struct {
		spec        v1alpha1.M2MClientSpec
		asked, want string
		refused     string
	}{
		"a secret":             {v1alpha1.M2MClientSpec{}, "", "", ""},
		"a secret and account": {v1alpha1.M2MClientSpec{WorkloadIdentities: identities("a")}, "", "", ""},
		"an account asked for": {v1alpha1.M2MClientSpec{WorkloadIdentities: identities("a", "b")}, "b", "b", ""},
		"not the client's":     {v1alpha1.M2MClientSpec{WorkloadIdentities: identities("a")}, "b", "", "not among"},
		"the only account":     {v1alpha1.M2MClientSpec{Secret: none, WorkloadIdentities: identities("a")}, "", "a", ""},
		"two accounts":         {v1alpha1.M2MClientSpec{Secret: none, WorkloadIdentities: identities("a", "b")}, "", "", "a, b"},
		"its own keys":         {v1alpha1.M2MClientSpec{Secret: none, PublicKeys: &v1alpha1.PublicKeySet{}}, "", "", "private key"},
		"nothing":              {v1alpha1.M2MClientSpec{Secret: none}, "", "", "has no secret"},
	} {
		account, err := accountOf(&v1alpha1.M2MClient{Spec: test.spec}, test.asked)
		if account != test.want || (err != nil) != (test.refused != "") || err != nil && !strings.Contains(err.Error(), test.refused) {
			t.Errorf("%s: %q, %v", name, account, err)
		}
	}
}

// tokenOf is a token without a signature that anybody would believe.
func tokenOf(header, claims string) string {
	b := base64.RawURLEncoding
	return b.EncodeToString([]byte(header)) + "." + b.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestDecode(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	claims := `{"sub":"x\u001b[31m","aud":["a", "b"],"exp":1800003600,"nbf":1799999940.5,"iat":1e300,"tier":{"a": 1}}`
	d, err := decodeToken(tokenOf(`{"alg":"ES256","kid":"k"}`, claims))
	if err != nil {
		t.Fatal(err)
	}
	const want = `Header
  alg  ES256
  kid  k

Claims
  sub   x` + "\uFFFD" + `[31m
  aud   ["a","b"]
  exp   1800003600  2027-01-15T09:00:00Z, in 60m
  nbf   1799999940.5  2027-01-15T07:59:00Z, 60s ago
  iat   1e300
  tier  {"a":1}
`
	if got := d.page(now); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var out bytes.Buffer
	f := &fetching{kube: &kube{IOStreams: genericiooptions.IOStreams{Out: &out}}, decode: true}
	if err := f.show(nil, tokenOf(`{}`, `{}`)); err != nil || !strings.Contains(out.String(), "Not verified") {
		t.Error(out.String(), err)
	}
}

func FuzzDecodeToken(f *testing.F) {
	for _, text := range []string{"", "a.b.c", tokenOf(`{}`, `{}`), tokenOf(`{"alg":1}`, `{"exp":"x","iat":-1}`), tokenOf(`[]`, `{}`), tokenOf(`{}`, `{"a":1}{}`), tokenOf(`{"a"`, `{}`)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := decodeToken(text)
		if err != nil {
			return
		}
		if !json.Valid(d.Header) || !json.Valid(d.Claims) || d.Header[bytes.IndexAny(d.Header, "{")] != '{' {
			t.Errorf("%q was read as %q %q", text, d.Header, d.Claims)
		}
		for line := range strings.Lines(d.page(time.Unix(0, 0))) {
			if cleaned := clean(strings.TrimSuffix(line, "\n")); cleaned+"\n" != line {
				t.Errorf("%q speaks to the terminal: %q", text, line)
			}
		}
	})
}
