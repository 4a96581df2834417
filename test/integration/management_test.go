package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// project is an issuer whose management API is open, and a caller of it.
type project struct {
	*operator
	issuer    *v1alpha1.ClusterM2MIssuer
	namespace string // where the API makes clients
	server    server
	authorize func(*http.Request)
}

// newProject makes an issuer with a namespace and a project secret of its own.
func (o *operator) newProject(t *testing.T) *project {
	t.Helper()
	p := &project{operator: o, namespace: o.namespace(t), server: o.servers()[0]}
	p.issuer = o.newIssuer(t, func(spec *v1alpha1.ClusterM2MIssuerSpec) {
		spec.Token, spec.Environment = nil, v1alpha1.EnvironmentTest
		spec.ManagementAPI = &v1alpha1.ManagementAPISpec{Namespace: p.namespace}
	})
	secret, err := o.NewProjectSecret(t.Context(), p.issuer.Name)
	if err != nil {
		t.Fatal(err)
	}
	p.authorize = func(r *http.Request) { r.SetBasicAuth(p.issuer.Spec.ProjectID, secret) }
	eventually.Right(t, func() string {
		if a := p.call(t, http.MethodGet, "/v1/m2m/clients/nobody", ""); a.status != http.StatusNotFound {
			return fmt.Sprintf("the project secret isn't known: %d %s", a.status, a.body)
		}
		return ""
	})
	return p
}

// managed is an answer of the management API.
type managed struct {
	status int
	body   string

	StatusCode   int    `json:"status_code"`
	RequestID    string `json:"request_id"`
	ErrorType    string `json:"error_type"`
	ErrorMessage string `json:"error_message"`
	ClientID     string `json:"client_id"`
	Client       struct {
		ID           string         `json:"client_id"`
		Secret       string         `json:"client_secret"`
		Next         string         `json:"next_client_secret"`
		Name         string         `json:"client_name"`
		Description  string         `json:"client_description"`
		Status       string         `json:"status"`
		Scopes       []string       `json:"scopes"`
		LastFour     string         `json:"client_secret_last_four"`
		NextLastFour *string        `json:"next_client_secret_last_four"`
		Metadata     map[string]any `json:"trusted_metadata"`
	} `json:"m2m_client"`
	Clients []struct {
		ID   string `json:"client_id"`
		Name string `json:"client_name"`
	} `json:"m2m_clients"`
	Results struct {
		Total      int     `json:"total"`
		NextCursor *string `json:"next_cursor"`
	} `json:"results_metadata"`
}

// call calls the management API through the project's server.
func (p *project) call(t *testing.T, method, path, body string) managed {
	t.Helper()
	a, err := p.tryCall(method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (p *project) tryCall(method, path, body string) (a managed, err error) {
	request, err := http.NewRequest(method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	p.authorize(request)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return a, err
	}
	a.status, a.body = response.StatusCode, string(text)
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s %s: %d %s: %w", method, path, a.status, a.body, err)
	}
	if a.StatusCode != a.status || !strings.HasPrefix(a.RequestID, "request-id-") || response.Header.Get("M2m-Resource-Version") != "" {
		return a, fmt.Errorf("%s %s: %d %s %v", method, path, a.status, a.body, response.Header)
	}
	return a, nil
}

// want fails the test where an answer is another.
func (a managed) want(t *testing.T, status int, errorType string) managed {
	t.Helper()
	if a.status != status || a.ErrorType != errorType {
		t.Fatalf("%d %s; want %d %q", a.status, a.body, status, errorType)
	}
	return a
}

func (p *project) create(t *testing.T, body string) managed {
	t.Helper()
	return p.call(t, http.MethodPost, "/v1/m2m/clients", body).want(t, 200, "")
}

// token asks a replica once: nothing here waits or tries again.
func (p *project) token(t *testing.T, s server, id, secret string, status int) answer {
	t.Helper()
	a := s.token(t, p.issuer.Status.TokenURL, id, secret)
	if a.status != status {
		t.Fatalf("%s answers %d %s; want %d", s.URL, a.status, a.body, status)
	}
	return a
}

// object finds the resource of a client.
func (p *project) object(t *testing.T, id string) *v1alpha1.M2MClient {
	t.Helper()
	list := &v1alpha1.M2MClientList{}
	if err := p.List(t.Context(), list, client.InNamespace(p.namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Status.ClientID == id {
			return &list.Items[i]
		}
	}
	t.Fatalf("no M2MClient has the id %s", id)
	return nil
}

// Every step of a client's life holds when its call answers: at the replica that
// answered, and, after the propagation delay, at the others.
func TestManagementLife(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	made := p.create(t, `{"client_name":"Billing","client_description":"Charges cards","scopes":["read:cards","write:cards"],"trusted_metadata":{"tier":1,"team":"a"}}`).Client
	if !strings.HasPrefix(made.ID, "m2m-client-test-") || made.Status != "active" || made.LastFour != made.Secret[len(made.Secret)-4:] || made.NextLastFour != nil {
		t.Fatalf("%+v", made)
	}
	for _, s := range p.servers() {
		if a := p.token(t, s, made.ID, made.Secret, 200); a.Scope != "read:cards write:cards" {
			t.Error(a.body)
		}
	}
	path := "/v1/m2m/clients/" + made.ID
	got := p.call(t, http.MethodGet, path, "").want(t, 200, "").Client
	if got.Secret != "" || got.Name != "Billing" || got.Description != "Charges cards" || !slices.Equal(got.Scopes, made.Scopes) {
		t.Errorf("%+v", got)
	}

	updated := p.call(t, http.MethodPut, path, `{"client_name":"Cards","status":"inactive","trusted_metadata":{"tier":null,"region":"eu"}}`).want(t, 200, "").Client
	if updated.Name != "Cards" || updated.Status != "inactive" || fmt.Sprint(updated.Metadata) != "map[region:eu team:a]" || updated.Description != "Charges cards" {
		t.Errorf("%+v", updated)
	}
	for _, s := range p.servers() {
		p.token(t, s, made.ID, made.Secret, 401)
	}
	p.call(t, http.MethodPost, path, `{"status":"active"}`).want(t, 200, "")
	p.token(t, p.server, made.ID, made.Secret, 200)

	p.call(t, http.MethodPost, path+"/secrets/rotate", "").want(t, 409, "secret_rotation_not_started")
	started := p.call(t, http.MethodPost, path+"/secrets/rotate/start", "{}").want(t, 200, "").Client
	if started.Next == "" || started.NextLastFour == nil || *started.NextLastFour != started.Next[len(started.Next)-4:] {
		t.Fatalf("%+v", started)
	}
	for _, s := range p.servers() {
		p.token(t, s, made.ID, made.Secret, 200)
		p.token(t, s, made.ID, started.Next, 200)
	}
	p.call(t, http.MethodPost, path+"/secrets/rotate/start", "{}").want(t, 409, "secret_rotation_already_started")
	p.call(t, http.MethodPost, path+"/secrets/rotate/cancel", "{}").want(t, 200, "")
	p.token(t, p.server, made.ID, started.Next, 401)
	started = p.call(t, http.MethodPost, path+"/secrets/rotate/start", "").want(t, 200, "").Client
	rotated := p.call(t, http.MethodPost, path+"/secrets/rotate", "{}").want(t, 200, "").Client
	if fmt.Sprint(rotated.Metadata) != fmt.Sprint(updated.Metadata) || rotated.Description != "Charges cards" || !slices.Equal(rotated.Scopes, made.Scopes) {
		t.Errorf("the calls after have changed more: %+v", rotated)
	}
	if rotated.NextLastFour != nil || rotated.LastFour != *started.NextLastFour || rotated.Next != "" {
		t.Errorf("%+v", rotated)
	}
	for _, s := range p.servers() {
		p.token(t, s, made.ID, made.Secret, 401)
		p.token(t, s, made.ID, started.Next, 200)
	}
	p.checkResource(t, made.ID, made.Secret, started.Next)

	if a := p.call(t, http.MethodDelete, path, "").want(t, 200, ""); a.ClientID != made.ID {
		t.Error(a.body)
	}
	p.token(t, p.server, made.ID, started.Next, 401)
	p.call(t, http.MethodGet, path, "").want(t, 404, "m2m_client_not_found")
	p.checkAudit(t, made.ID, made.Secret, started.Next)
}

// checkResource: the client is like any other, without a Secret, and no secret is in it.
func (p *project) checkResource(t *testing.T, id string, secrets ...string) {
	t.Helper()
	o := p.object(t, id)
	p.waitReason(t, o, v1alpha1.ReasonIssued)
	if roles(o) != "3C" || o.Status.SecretName != "" || o.Status.Effective.Delivery != v1alpha1.DeliveryNone {
		t.Errorf("%+v", o.Status)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	checkNothingSecret(t, "the resource", string(text), secrets...)
	list := &corev1.SecretList{}
	if err := p.List(t.Context(), list, client.InNamespace(p.namespace)); err != nil || len(list.Items) != 0 {
		t.Error("there is a Secret", err)
	}
}

func checkNothingSecret(t *testing.T, where, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret", where)
		}
	}
}

// checkAudit: every call is accounted for, by whom and from where.
func (p *project) checkAudit(t *testing.T, id string, secrets ...string) {
	t.Helper()
	log, err := os.ReadFile(p.API.Audit)
	if err != nil {
		t.Fatal(err)
	}
	checkNothingSecret(t, "the audit log", string(log), secrets...)
	outcomes := map[string]int{}
	for line := range strings.Lines(string(log)) {
		var l struct {
			ClientID   string `json:"client_id"`
			Action     string `json:"action"`
			Outcome    string `json:"outcome"`
			Caller     string `json:"caller"`
			Credential string `json:"credential"`
			Peer       string `json:"peer"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(line, err)
		}
		if l.ClientID != id {
			continue
		}
		outcomes[l.Action+" "+l.Outcome]++
		if l.Caller != "m2m-operator.dev:project:"+p.issuer.Spec.ProjectID || !strings.HasPrefix(l.Credential, "m2m-operator-project-") || !strings.HasPrefix(l.Peer, "127.0.0.1") {
			t.Error(line)
		}
	}
	want := map[string]int{
		"update attempt": 2, "delete attempt": 1, "rotate attempt": 2, "rotate_start attempt": 3, "rotate_cancel attempt": 1,
		"create ok": 1, "get ok": 1, "get m2m_client_not_found": 1, "update ok": 2, "delete ok": 1,
		"rotate_start ok": 2, "rotate_start secret_rotation_already_started": 1,
		"rotate ok": 1, "rotate secret_rotation_not_started": 1, "rotate_cancel ok": 1,
	}
	if fmt.Sprint(outcomes) != fmt.Sprint(want) {
		t.Errorf("audited: %v; want %v", outcomes, want)
	}
}

// A chosen id and secret work as they are, once: of many that want an id, one gets it.
func TestManagementChosen(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	const secret = "h4Kd93-mXq0aWz.71bTy"
	body := `{"client_id":"billing","client_secret":"` + secret + `","scopes":["read:cards"]}`
	var mu sync.Mutex
	var racing sync.WaitGroup
	outcomes := map[string]int{}
	for range 5 {
		racing.Go(func() {
			a, err := p.tryCall(http.MethodPost, "/v1/m2m/clients/", body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			outcomes[fmt.Sprint(a.status, a.ErrorType)]++
		})
	}
	racing.Wait()
	if outcomes["200"] != 1 || outcomes["409duplicate_m2m_client_id"] != 4 {
		t.Fatal(outcomes)
	}
	p.token(t, p.server, "billing", secret, 200)
	list := &v1alpha1.M2MClientList{}
	eventually.Right(t, func() string {
		if err := p.List(t.Context(), list, client.InNamespace(p.namespace)); err != nil || len(list.Items) != 1 {
			return fmt.Sprintf("%d clients, %v", len(list.Items), err)
		}
		return ""
	})
	for _, test := range []struct{ name, body, message string }{
		{"the id of a project", `{"client_id":"` + p.issuer.Spec.ProjectID + `"}`, "project's id"},
		{"an id of the operator's form", `{"client_id":"m2m-client-live-6f1b1c5e-6b1e-4d0e-9a55-0c5a3f3f4b11"}`, "reservedClientIDs"},
		{"a weak secret", `{"client_secret":"aaaaaaaaaaaaaaaa"}`, "entropy"},
		{"a short secret", `{"client_secret":"h4Kd9"}`, "client_secret"},
	} {
		if a := p.call(t, http.MethodPost, "/v1/m2m/clients", test.body); a.status < 400 || a.status >= 500 || !strings.Contains(a.ErrorMessage, test.message) {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
	update(t, p.operator, p.issuer, func(i *v1alpha1.ClusterM2MIssuer) {
		i.Spec.Grants[0].ChosenClientIDs, i.Spec.Grants[0].Scopes = false, []string{"read:*"}
	})
	eventually.Right(t, func() string {
		if a := p.call(t, http.MethodPost, "/v1/m2m/clients", `{"client_id":"another"}`); a.status != 400 || !strings.Contains(a.ErrorMessage, "chosenClientIDs") {
			return a.body
		}
		return ""
	})
	p.call(t, http.MethodPost, "/v1/m2m/clients", `{"scopes":["write:cards"]}`).want(t, 400, "invalid_argument")
	p.call(t, http.MethodPut, "/v1/m2m/clients/billing", `{"scopes":["admin"]}`).want(t, 400, "invalid_argument")
	p.call(t, http.MethodPut, "/v1/m2m/clients/billing", `{"scopes":[]}`).want(t, 200, "")
}

// Concurrent calls: no update is lost, and one rotation begins.
func TestManagementConcurrency(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	made := p.create(t, `{}`).Client
	path := "/v1/m2m/clients/" + made.ID
	var mu sync.Mutex
	var racing sync.WaitGroup
	began := map[string]int{}
	for n := range 5 {
		racing.Go(func() {
			a, err := p.tryCall(http.MethodPut, path, fmt.Sprintf(`{"trusted_metadata":{"k%d":%d}}`, n, n))
			if err != nil || a.status != 200 {
				t.Error(a.body, err)
			}
		})
		racing.Go(func() {
			a, err := p.tryCall(http.MethodPost, path+"/secrets/rotate/start", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			began[fmt.Sprint(a.status, a.ErrorType)]++
		})
	}
	racing.Wait()
	if began["200"] != 1 || began["409secret_rotation_already_started"] != 4 {
		t.Error(began)
	}
	if got := p.call(t, http.MethodGet, path, "").Client; len(got.Metadata) != 5 {
		t.Errorf("an update was lost: %v", got.Metadata)
	}
	p.token(t, p.server, made.ID, made.Secret, 200)
}

// What another manager owns is a conflict that names it, and nothing that it owns changes.
func TestManagementOwnership(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	const manifest = `{"apiVersion":"m2m-operator.dev/v1alpha1","kind":"M2MClient","metadata":{"name":"from-git","namespace":%q},
		"spec":{"issuerRef":{"name":%q},"displayName":"Git's","scopes":["read:cards"],"trustedMetadata":{"a":1}}}`
	apply := func() {
		p.kubectlInput(t, fmt.Sprintf(manifest, p.namespace, p.issuer.Name), "apply", "--server-side", "--field-manager=argocd", "-f", "-")
	}
	apply()
	git := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "from-git"}}
	p.waitReason(t, git, v1alpha1.ReasonIssued)
	path := "/v1/m2m/clients/" + git.Status.ClientID

	// The holder of a project secret has what the API made, and else what RBAC grants.
	p.call(t, http.MethodGet, path, "").want(t, 404, "m2m_client_not_found")
	if a := p.call(t, http.MethodPost, "/v1/m2m/clients/search", `{}`).want(t, 200, ""); a.Results.Total != 0 {
		t.Error(a.body)
	}
	p.bind(t, p.namespace, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "m2m-operator.dev:project:" + p.issuer.Spec.ProjectID}, "get")
	p.waitStatus(t, http.MethodGet, path, "", 200)
	p.call(t, http.MethodPut, path, `{"client_description":"mine"}`).want(t, 403, "forbidden")
	p.bind(t, p.namespace, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "m2m-operator.dev:project:" + p.issuer.Spec.ProjectID}, "patch", "delete")
	p.waitStatus(t, http.MethodPut, path, `{"client_description":"mine"}`, 200)

	for name, body := range map[string]string{
		"spec.displayName":     `{"client_name":"mine"}`,
		"spec.scopes":          `{"scopes":["write:cards"]}`,
		"spec.trustedMetadata": `{"trusted_metadata":{"b":2}}`,
	} {
		a := p.call(t, http.MethodPut, path, body).want(t, 409, "conflict")
		if !strings.Contains(a.ErrorMessage, name) || !strings.Contains(a.ErrorMessage, `"argocd"`) {
			t.Errorf("%s: %s", name, a.ErrorMessage)
		}
	}
	for _, body := range []string{`{"scopes":[]}`, `{"client_name":""}`, `{"trusted_metadata":{"a":null}}`} {
		if a := p.call(t, http.MethodPut, path, body).want(t, 409, "conflict"); !strings.Contains(a.ErrorMessage, "argocd") {
			t.Errorf("%s: %s", body, a.ErrorMessage)
		}
	}
	// An equal value is no change, and isn't owned afterwards.
	p.call(t, http.MethodPut, path, `{"client_name":"Git's","scopes":["read:cards"],"trusted_metadata":{"a":1},"status":"active"}`).want(t, 200, "")
	p.call(t, http.MethodPut, path, `{"status":"inactive"}`).want(t, 200, "")
	before := git.DeepCopy()
	p.refresh(t, before)
	apply()
	p.refresh(t, git)
	if git.Generation != before.Generation || git.Spec.State != v1alpha1.ClientInactive || git.Spec.Description != "mine" {
		t.Errorf("Git's next apply changed something: %+v", git.Spec)
	}
	if a := p.call(t, http.MethodDelete, path, "").want(t, 409, "conflict"); !strings.Contains(a.ErrorMessage, "argocd") {
		t.Error(a.ErrorMessage)
	}
	a := p.call(t, http.MethodPost, path+"/secrets/rotate/start", "").want(t, 409, "conflict")
	if !strings.Contains(a.ErrorMessage, "kubectl m2m rotate from-git") {
		t.Error(a.ErrorMessage)
	}
}

// bind lets somebody do something with the M2MClients of a namespace.
func (o *operator) bind(t *testing.T, namespace string, subject rbacv1.Subject, verbs ...string) {
	t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "test-"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"m2m-operator.dev"}, Resources: []string{"m2mclients"}, Verbs: verbs,
	}}}
	if err := o.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role.Name}, Subjects: []rbacv1.Subject{subject}, RoleRef: rbacv1.RoleRef{
		APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name,
	}}
	if err := o.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

// waitStatus calls until an answer has a status: what RBAC says is asked again after a while.
func (p *project) waitStatus(t *testing.T, method, path, body string, status int) {
	t.Helper()
	eventually.Right(t, func() string {
		if a := p.call(t, method, path, body); a.status != status {
			return fmt.Sprintf("%s %s: %d %s", method, path, a.status, a.body)
		}
		return ""
	})
}

// A Kubernetes token that was made for the management API is as good as a project secret,
// where RBAC says so.
func TestManagementByToken(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	account := p.account(t, p.namespace, "terraform")
	subject := rbacv1.Subject{Kind: "ServiceAccount", Namespace: account.Namespace, Name: account.Name}
	audience := p.issuer.Spec.URL + "/v1/m2m/"
	token := p.projected(t, account, nil, audience)
	p.authorize = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	p.call(t, http.MethodPost, "/v1/m2m/clients", `{}`).want(t, 403, "forbidden")
	p.bind(t, p.namespace, subject, "create", "get", "patch", "delete")
	p.waitStatus(t, http.MethodPost, "/v1/m2m/clients", `{}`, 200)
	made := p.create(t, `{"client_name":"Billing"}`).Client
	p.token(t, p.server, made.ID, made.Secret, 200)
	p.call(t, http.MethodPut, "/v1/m2m/clients/"+made.ID, `{"client_name":"Cards"}`).want(t, 200, "")
	p.call(t, http.MethodPost, "/v1/m2m/clients/"+made.ID+"/secrets/rotate/start", "").want(t, 200, "")
	const search = `{"query":{"operator":"AND","operands":[{"filter_name":"client_name","filter_value":["Cards"]}]}}`
	if a := p.call(t, http.MethodPost, "/v1/m2m/clients/search", search); a.status != 200 || a.Results.Total != 0 {
		t.Errorf("who may get and not list finds %s", a.body)
	}
	p.bind(t, p.namespace, subject, "list")
	eventually.Right(t, func() string {
		if a := p.call(t, http.MethodPost, "/v1/m2m/clients/search", search); a.Results.Total != 1 {
			return a.body
		}
		return ""
	})
	p.call(t, http.MethodDelete, "/v1/m2m/clients/"+made.ID, "{}").want(t, 200, "")

	for name, bad := range map[string]string{
		"of another audience": p.projected(t, account, nil, "https://elsewhere.example.com"),
		"of two audiences":    p.projected(t, account, nil, audience, "https://elsewhere.example.com"),
		"for tokens":          p.projected(t, account, nil, p.issuer.Spec.URL),
		"for tokens, and it":  p.projected(t, account, nil, p.issuer.Spec.URL, audience),
		"of the API server":   p.projected(t, account, nil),
		"with a broken seal":  token[:len(token)-4] + "AAAA",
		"not a JWT":           "h.e.y",
	} {
		token = bad
		if a := p.call(t, http.MethodGet, "/v1/m2m/clients/"+made.ID, ""); a.status != 401 || a.ErrorType != "unauthorized_credentials" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// Junk makes no TokenReview, however much of it comes: the API server's own count says so.
func TestManagementJunk(t *testing.T) {
	p := shared.newProject(t)
	account := p.account(t, p.namespace, "terraform")
	token := p.projected(t, account, nil, p.issuer.Spec.URL+"/v1/m2m/")
	good := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	p.authorize = good
	p.waitStatus(t, http.MethodGet, "/v1/m2m/clients/nobody", "", 404)
	before := p.reviews(t)
	statuses := map[int]int{}
	for n := range 300 {
		junk := fmt.Sprintf("%s%04d", token[:len(token)-4], n)
		p.authorize = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+junk) }
		statuses[p.call(t, http.MethodGet, "/v1/m2m/clients/nobody", "").status]++
	}
	made := p.reviews(t) - before
	t.Logf("300 junk bearers: %v, %d TokenReviews", statuses, made)
	if made != 0 || statuses[401]+statuses[429] != 300 {
		t.Errorf("300 junk bearers: %v, %d TokenReviews", statuses, made)
	}
	p.authorize = good // is taken from wherever it comes
	p.call(t, http.MethodGet, "/v1/m2m/clients/nobody", "").want(t, 404, "m2m_client_not_found")
}

// reviews is how many TokenReviews the API server has been asked for.
func (p *project) reviews(t *testing.T) (total int) {
	t.Helper()
	for line := range strings.Lines(p.kubectl(t, "get", "--raw", "/metrics")) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `resource="tokenreviews"`) {
			continue
		}
		var n float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
			t.Fatal(line, err)
		}
		total += int(n)
	}
	return total
}

// Other projects' clients are as good as none, and projects can change their secrets.
func TestManagementProjects(t *testing.T) {
	t.Parallel()
	p, q := shared.newProject(t), shared.newProject(t)
	made := p.create(t, `{}`).Client
	for _, path := range []string{made.ID, "m2m-client-test-00000000-0000-4000-8000-000000000000", "a%2Fb", "%25", "caf%C3%A9", "..%2f"} {
		path = "/v1/m2m/clients/" + path
		q.call(t, http.MethodGet, path, "").want(t, 404, "m2m_client_not_found")
		q.call(t, http.MethodPut, path, `{"client_name":"mine"}`).want(t, 404, "m2m_client_not_found")
		q.call(t, http.MethodDelete, path, "").want(t, 404, "m2m_client_not_found")
		q.call(t, http.MethodPost, path+"/secrets/rotate/start", "").want(t, 404, "m2m_client_not_found")
	}
	if a := q.call(t, http.MethodPost, "/v1/m2m/clients/search", `{"query":{"operator":"OR","operands":[{"filter_name":"client_id","filter_value":["`+made.ID+`"]}]}}`); a.Results.Total != 0 {
		t.Error(a.body)
	}
	page := p.call(t, http.MethodPost, "/v1/m2m/clients/search", `{"limit":1}`)
	if page.Results.Total != 1 || page.Results.NextCursor != nil {
		t.Error(page.body)
	}
	p.create(t, `{}`)
	cursor := p.call(t, http.MethodPost, "/v1/m2m/clients/search", `{"limit":1}`).Results.NextCursor
	if cursor == nil {
		t.Fatal("there is no second page")
	}
	q.call(t, http.MethodPost, "/v1/m2m/clients/search", `{"cursor":"`+*cursor+`"}`).want(t, 400, "invalid_cursor")

	// Two secrets at once, so that one can replace the other.
	second, err := p.NewProjectSecret(t.Context(), p.issuer.Name)
	if err != nil {
		t.Fatal(err)
	}
	first := p.authorize
	p.authorize = func(r *http.Request) { r.SetBasicAuth(p.issuer.Spec.ProjectID, second) }
	p.waitStatus(t, http.MethodGet, "/v1/m2m/clients/"+made.ID, "", 200)
	secrets := &corev1.SecretList{}
	if err := p.List(t.Context(), secrets, client.InNamespace(installation.Namespace), client.MatchingLabels{v1alpha1.LabelIssuer: p.issuer.Name}); err != nil {
		t.Fatal(err)
	}
	for i := range secrets.Items {
		if !strings.HasSuffix(second, secrets.Items[i].Annotations[v1alpha1.AnnotationLastFour]) {
			if err := p.Delete(t.Context(), &secrets.Items[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.authorize = first
	p.waitStatus(t, http.MethodGet, "/v1/m2m/clients/"+made.ID, "", 401)
}

// What the API left with a client is believed as the API left it, and brings the client
// back after a loss of its status or a restore.
func TestManagementDeposit(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	made := p.create(t, `{"scopes":["read:cards"]}`).Client
	o := p.object(t, made.ID)
	first := o.Annotations[v1alpha1.AnnotationCredential]
	path := "/v1/m2m/clients/" + made.ID
	next := p.call(t, http.MethodPost, path+"/secrets/rotate/start", "").want(t, 200, "").Client.Next
	p.call(t, http.MethodPost, path+"/secrets/rotate", "").want(t, 200, "")

	t.Run("an older state is put back", func(t *testing.T) {
		update(t, p.operator, o, func(o *v1alpha1.M2MClient) { o.Annotations[v1alpha1.AnnotationCredential] = first })
		p.waitReason(t, o, v1alpha1.ReasonCredentialAltered)
		p.token(t, p.server, made.ID, made.Secret, 401)
		p.token(t, p.server, made.ID, next, 200)
	})
	t.Run("a rotation puts it right", func(t *testing.T) {
		p.call(t, http.MethodPost, path+"/secrets/rotate/start", "").want(t, 200, "")
		p.call(t, http.MethodPost, path+"/secrets/rotate/cancel", "").want(t, 200, "")
		p.waitReason(t, o, v1alpha1.ReasonIssued)
		p.token(t, p.server, made.ID, next, 200)
	})
	t.Run("the status is lost", func(t *testing.T) {
		p.writeStatus(t, o, loseStatus)
		p.waitReason(t, o, v1alpha1.ReasonIssued)
		if o.Status.ClientID != made.ID {
			t.Error(o.Status.ClientID)
		}
		eventually.Right(t, func() string { return p.server.token(t, p.issuer.Status.TokenURL, made.ID, next).refusal() })
	})
	t.Run("copied to another client", func(t *testing.T) {
		thief := p.newClient(t, p.namespace, "thief", func(c *v1alpha1.M2MClient) {
			of(p.issuer)(c)
			c.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
			c.Annotations = map[string]string{v1alpha1.AnnotationCredential: o.Annotations[v1alpha1.AnnotationCredential]}
		})
		p.waitReason(t, thief, v1alpha1.ReasonCredentialAltered)
		if thief.Status.ClientID != "" {
			t.Error("it has an id:", thief.Status.ClientID)
		}
	})
	t.Run("restored from a backup", func(t *testing.T) {
		p.refresh(t, o)
		backup := o.DeepCopy()
		if err := p.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		eventually.Right(t, func() string {
			if a := p.server.token(t, p.issuer.Status.TokenURL, made.ID, next); a.status != 401 {
				return a.body
			}
			return ""
		})
		restored := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{
			Namespace: backup.Namespace, Name: backup.Name, Annotations: backup.Annotations, Labels: backup.Labels,
		}, Spec: backup.Spec}
		if err := p.Create(t.Context(), restored); err != nil {
			t.Fatal(err)
		}
		p.waitReason(t, restored, v1alpha1.ReasonIssued)
		if restored.Status.ClientID != made.ID {
			t.Error(restored.Status.ClientID)
		}
		eventually.Right(t, func() string { return p.server.token(t, p.issuer.Status.TokenURL, made.ID, next).refusal() })
	})
}

// refusal is an answer that isn't a token; empty: it is one.
func (a answer) refusal() string {
	if a.status == 200 {
		return ""
	}
	return fmt.Sprint(a.status, a.body)
}

// The API says what it can't do: where it is closed, where its namespace isn't there,
// and while it is away.
func TestManagementUnavailable(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	made := p.create(t, `{}`).Client
	update(t, p.operator, p.issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.ManagementAPI.Namespace = "not-there" })
	eventually.Right(t, func() string {
		if a := p.call(t, http.MethodPost, "/v1/m2m/clients", `{}`); a.status != 409 || !strings.Contains(a.ErrorMessage, "not-there") {
			return a.body
		}
		return ""
	})
	update(t, p.operator, p.issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.ManagementAPI = nil })
	eventually.Right(t, func() string {
		if a := p.call(t, http.MethodPost, "/v1/m2m/clients", `{}`); a.status != 403 || !strings.Contains(a.ErrorMessage, "spec.managementAPI") {
			return a.body
		}
		return ""
	})
	p.call(t, http.MethodGet, "/v1/m2m/clients/"+made.ID, "").want(t, 404, "m2m_client_not_found")
}

// A request that the API serves leaves nothing behind when it fails.
func TestManagementQuota(t *testing.T) {
	t.Parallel()
	p := shared.newProject(t)
	p.create(t, `{}`)
	const counted = "count/m2mclients.m2m-operator.dev"
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "one"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counted: resource.MustParse("1")}},
	}
	if err := p.Create(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	quota.Status.Hard = quota.Spec.Hard
	quota.Status.Used = corev1.ResourceList{counted: resource.MustParse("1")}
	if err := p.Status().Update(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		a := p.call(t, http.MethodPost, "/v1/m2m/clients", `{}`)
		if a.status != 403 || !strings.Contains(a.ErrorMessage, "quota") {
			return a.body
		}
		return ""
	})
}
