package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
	"github.com/m2m-operator/m2m-operator/test/process"
)

// An operator of named namespaces has rights there and nowhere else, and all works there:
// from making the pepper, for which it looks for credentials, to calls that wait for a watch.
func TestNamedNamespaces(t *testing.T) {
	t.Parallel()
	within := []string{"--namespaces=team-a,team-b", "--namespaces=m2m-api"}
	i, err := startOperator(t.Context(), installation.Options{
		Dir: t.TempDir(), ManagementAPI: true, Install: []string{"test/integration/testdata/namespaced"},
		ControllerArgs: within, ServerArgs: within, APIArgs: []string{"--namespaces=m2m-api,team-a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	outside := i.newClient(t, i.namespace(t), "billing", nil)
	for _, namespace := range []string{"team-a", "team-b"} {
		c := i.newClient(t, namespace, "billing", nil)
		i.waitReason(t, c, v1alpha1.ReasonIssued)
		i.waitAccepted(t, i.secret(t, c))
		update(t, i, c, func(c *v1alpha1.M2MClient) { c.Spec.State = v1alpha1.ClientInactive })
		i.waitRefused(t, i.secret(t, c))
	}

	// The watch that a call of the API waits for is that of its client's namespace.
	p := &project{operator: i, namespace: installation.APINamespace, server: i.servers()[0], issuer: &v1alpha1.ClusterM2MIssuer{}}
	p.issuer.Name = v1alpha1.DefaultIssuer
	i.refresh(t, p.issuer)
	p.authorize = func(r *http.Request) { r.SetBasicAuth(i.ProjectID, i.ProjectSecret) }
	begun := time.Now()
	made := p.create(t, `{"client_name":"by a program"}`)
	p.token(t, p.server, made.Client.ID, made.Client.Secret, http.StatusOK)
	p.call(t, http.MethodDelete, "/v1/m2m/clients/"+made.Client.ID, "").want(t, 200, "")
	p.token(t, p.server, made.Client.ID, made.Client.Secret, http.StatusUnauthorized)
	if strings.Contains(process.LogTail(i.Servers[0].Log), "before this server knew") {
		t.Errorf("calls waited for a watch in vain (%v)", time.Since(begun))
	}

	i.refresh(t, outside)
	if outside.Status.ClientID != "" || outside.Status.ObservedGeneration > 0 {
		t.Errorf("a client of another namespace has the status %+v", outside.Status)
	}
	for _, account := range []string{"controller", "server", "api"} {
		i.checkConfined(t, account, outside.Namespace)
	}
	for _, p := range i.Processes() {
		if text := process.LogTail(p.Log); strings.Contains(p.Name, "m2m") && strings.Contains(text, "forbidden") {
			t.Errorf("%s: %s", p.Name, text)
		}
	}
}

// checkConfined asks the API server what a role may do in a namespace that isn't its own.
func (o *operator) checkConfined(t *testing.T, account, namespace string) {
	t.Helper()
	for _, what := range []authorizationv1.ResourceAttributes{
		{Verb: "list", Resource: "secrets"},
		{Verb: "get", Resource: "secrets", Name: "billing"},
		{Verb: "create", Resource: "secrets"},
		{Verb: "list", Group: "m2m-operator.dev", Resource: "m2mclients"},
		{Verb: "patch", Group: "m2m-operator.dev", Resource: "m2mclients", Subresource: "status"},
		{Verb: "create", Group: "m2m-operator.dev", Resource: "m2mclients"},
		{Verb: "list", Resource: "serviceaccounts"},
		{Verb: "create", Resource: "events"},
	} {
		what.Namespace = namespace
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:m2m-system:m2m-operator-" + account, ResourceAttributes: &what,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:m2m-system", "system:authenticated"},
		}}
		if err := o.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			t.Errorf("the %s may %s %s %s in another namespace: %s", account, what.Verb, what.Group, what.Resource, review.Status.Reason)
		}
	}
}
