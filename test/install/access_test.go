package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// may asks the API server what a user may do. what is "verb resource[/subresource] [name]",
// the resource with its group where it has one.
func (c *cluster) may(t *testing.T, user, what, namespace string) bool {
	t.Helper()
	words := strings.Fields(what)
	attributes := &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: words[0]}
	resource, subresource, _ := strings.Cut(words[1], "/")
	attributes.Resource, attributes.Group, _ = strings.Cut(resource, ".")
	attributes.Subresource = subresource
	if len(words) > 2 {
		attributes.Name = words[2]
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: []string{"system:authenticated"}, ResourceAttributes: attributes,
	}}
	if err := c.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

func account(role string) string {
	return "system:serviceaccount:" + operatorNamespace + ":m2m-operator-" + role
}

const (
	clients = "m2mclients.m2m-operator.dev"
	issuers = "clusterm2missuers.m2m-operator.dev"
	leases  = "leases.coordination.k8s.io"
)

// Each role may do what it needs, and not what another does.
func TestLeastPrivilege(t *testing.T) {
	c := installed(t)
	for _, test := range []struct {
		role, what, namespace string
		want                  bool
	}{
		{"controller", "create secrets", "team", true},
		{"controller", "update secrets", "team", true},
		{"controller", "delete secrets", "team", true},
		{"controller", "deletecollection secrets", "team", false},
		{"controller", "update " + clients + "/status", "team", true},
		{"controller", "patch " + clients + "/status", "team", false},
		{"controller", "patch " + clients, "team", false},
		{"controller", "create " + clients, "team", false},
		{"controller", "delete " + clients, "team", false},
		{"controller", "create " + issuers, "", true},
		{"controller", "update " + issuers, "", false},
		{"controller", "delete " + issuers, "", false},
		{"controller", "patch deployments.apps", "team", false},
		{"controller", "create serviceaccounts/token", "team", false},
		{"controller", "create pods", operatorNamespace, false},
		{"controller", "update " + leases + " m2m-operator-controller", operatorNamespace, true},
		{"controller", "update " + leases + " another", operatorNamespace, false},
		{"controller", "list " + leases, "team", false},

		{"server", "watch " + clients, "", true},
		{"server", "patch " + clients + "/status", "team", true},
		{"server", "patch " + clients, "team", false},
		{"server", "update " + clients + "/status", "team", false},
		{"server", "list secrets", operatorNamespace, true},
		{"server", "get secrets", "team", false},
		{"server", "list secrets", "", false},
		{"server", "create secrets", operatorNamespace, false},
		{"server", "update secrets m2m-operator-pepper", operatorNamespace, false},
		{"server", "patch " + issuers, "", false},
		{"server", "create tokenreviews.authentication.k8s.io", "", false},
		{"server", "create serviceaccounts/token", "team", false},
		{"server", "update " + leases + " m2m-operator-controller", operatorNamespace, false},

		{"api", "create " + clients, "team", true},
		{"api", "patch " + clients, "team", true},
		{"api", "delete " + clients, "team", true},
		{"api", "patch " + clients + "/status", "team", false},
		{"api", "update " + clients + "/status", "team", false},
		{"api", "get secrets", "team", false},
		{"api", "create secrets", operatorNamespace, false},
		{"api", "patch " + issuers, "", false},
		{"api", "create tokenreviews.authentication.k8s.io", "", true},
		{"api", "create subjectaccessreviews.authorization.k8s.io", "", true},
	} {
		if got := c.may(t, account(test.role), test.what, test.namespace); got != test.want {
			t.Errorf("may the %s %s in %q: %v", test.role, test.what, test.namespace, got)
		}
	}
	for _, role := range []string{"controller", "server", "api"} {
		for _, escalation := range []string{
			"impersonate users", "bind clusterroles.rbac.authorization.k8s.io", "escalate clusterroles.rbac.authorization.k8s.io",
			"create clusterrolebindings.rbac.authorization.k8s.io", "update customresourcedefinitions.apiextensions.k8s.io",
			"delete validatingadmissionpolicies.admissionregistration.k8s.io", "get nodes/proxy", "patch namespaces", "create pods/exec",
		} {
			if c.may(t, account(role), escalation, "") {
				t.Errorf("the %s may %s", role, escalation)
			}
		}
	}
}

// Users of `view` and `edit` get the clients of their namespaces, and nobody a status.
func TestUserRoles(t *testing.T) {
	c := installed(t)
	const namespace = "default"
	for _, role := range []string{"view", "edit"} {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "m2m-operator-" + role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: role}},
		}
		if err := c.Create(t.Context(), binding); err != nil {
			t.Fatal(err)
		}
		shipped := &rbacv1.ClusterRole{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: binding.RoleRef.Name}, shipped); err != nil {
			t.Fatal(err)
		}
		for _, to := range map[string][]string{"view": {"view", "edit", "admin"}, "edit": {"edit", "admin"}}[role] {
			if shipped.Labels["rbac.authorization.k8s.io/aggregate-to-"+to] != "true" {
				t.Errorf("%s isn't part of the ClusterRole %s", shipped.Name, to)
			}
		}
		if role == "edit" && shipped.Labels["rbac.authorization.k8s.io/aggregate-to-view"] != "" {
			t.Error("who may view may edit")
		}
	}
	eventually.Right(t, func() string {
		if !c.may(t, "view", "list "+clients, namespace) || !c.may(t, "edit", "create "+clients, namespace) {
			return "the bindings don't count yet"
		}
		return ""
	})
	for user, forbidden := range map[string][]string{
		"view": {"create " + clients, "patch " + clients, "delete " + clients, "patch " + clients + "/status"},
		"edit": {"patch " + clients + "/status", "update " + clients + "/status", "create " + issuers, "patch " + issuers},
	} {
		for _, what := range forbidden {
			if c.may(t, user, what, namespace) {
				t.Errorf("who has %s may %s", user, what)
			}
		}
	}
	c.editWithoutStatus(t, namespace)
}

// editWithoutStatus tries what RBAC says.
func (c *cluster) editWithoutStatus(t *testing.T, namespace string) {
	t.Helper()
	config := c.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "edit"}
	user, err := client.New(config, client.Options{Scheme: scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	m2m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "billing"}}
	if err := user.Create(t.Context(), m2m); err != nil {
		t.Fatal(err)
	}
	m2m.Status.ClientID = "another"
	if err := user.Status().Update(t.Context(), m2m); !apierrors.IsForbidden(err) {
		t.Errorf("writing the status: %v; want Forbidden", err)
	}
}

// rights are the rules of a role, one line each.
func rights(rules []rbacv1.PolicyRule, keep func(group, resource string) bool) []string {
	var all []string
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				if keep("", "") {
					all = append(all, verb+" "+url)
				}
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					if keep(group, resource) {
						all = append(all, fmt.Sprintf("%s %s.%s %v", verb, resource, group, rule.ResourceNames))
					}
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// An operator that is limited to namespaces keeps exactly those rights in the whole
// cluster that belong to no namespace.
func TestLimitedRights(t *testing.T) {
	c := installed(t)
	namespaced := c.namespacedResources(t)
	limited := byName(t, everything(t))
	for _, role := range []string{"controller", "server", "api"} {
		whole := &rbacv1.ClusterRole{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "m2m-operator-" + role}, whole); err != nil {
			t.Fatal(err)
		}
		shipped := limited["ClusterRole /m2m-operator-"+role+"-cluster"]
		if shipped == nil {
			t.Fatalf("there is no ClusterRole m2m-operator-%s-cluster", role)
		}
		if err := c.Create(t.Context(), shipped); err != nil {
			t.Fatal(err)
		}
		part := &rbacv1.ClusterRole{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(shipped), part); err != nil {
			t.Fatal(err)
		}
		want := rights(whole.Rules, func(group, resource string) bool { return !namespaced[resource+"."+group] })
		got := rights(part.Rules, func(string, string) bool { return true })
		if !slices.Equal(got, want) {
			t.Errorf("config/namespaced: in the whole cluster the %s has\n%s\nand needs\n%s", role, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		binding := limited["ClusterRoleBinding /m2m-operator-"+role]
		if bound := binding.Object["roleRef"].(map[string]any)["name"]; bound != shipped.GetName() {
			t.Errorf("the %s is bound to %v in the whole cluster", role, bound)
		}
	}
}

// namespacedResources are "resource.group" of all that belong to namespaces.
func (c *cluster) namespacedResources(t *testing.T) map[string]bool {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, list := range lists {
		group, _, found := strings.Cut(list.GroupVersion, "/")
		if !found {
			group = ""
		}
		for _, resource := range list.APIResources {
			if resource.Namespaced {
				all[resource.Name+"."+group] = true
			}
		}
	}
	if !all["secrets."] || !all[clients] || all[issuers] {
		t.Fatal("discovery doesn't know the kinds")
	}
	return all
}
