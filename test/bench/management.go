package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	ac "github.com/m2m-operator/m2m-operator/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/credential"
	"github.com/m2m-operator/m2m-operator/internal/journal"
	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// managementPage is how many clients a measured search asks for.
const managementPage = 100

// runManagement measures the management API, through a server as its users call it,
// against a bare API server: the same two writes for a client that is made, a read of one,
// and a list of a page.
func runManagement(args []string) error {
	flags := newFlags("management")
	calls := flags.Int("calls", 2000, "how many calls of each kind")
	workers := flags.Int("workers", 64, "how many calls at a time")
	clients := flags.Int("clients", 0, "how many M2MClients there are beside, for the searches")
	delay := flags.Duration("propagation-delay", 0, "what a call that changes something waits for the other servers, of which there are none here")
	limit := flags.Duration("limit", 40*time.Minute, "when to give up")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(*limit)
	defer cancel()
	if err := measureManagementFloor(ctx, *calls, *workers); err != nil {
		return err
	}
	w := wanted{managementAPI: true, apiArgs: []string{"--propagation-delay", delay.String()}}
	return withInstallation(ctx, w, func(ctx context.Context, in *installed) error {
		m := &management{in.Installation, in.Servers[0].URL, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *workers}}}
		if err := m.measure(ctx, *calls, *workers); err != nil {
			return err
		}
		return m.measureSearch(ctx, *clients)
	})
}

// callRate prints how many calls a second there were.
func callRate(ctx context.Context, name string, workers, calls int, call func(n int) error) error {
	start := time.Now()
	if err := parallel(ctx, workers, calls, call); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(start)
	fmt.Printf("%-42s %7.0f a second (%d, %d at a time, %.1f s)\n", name, float64(calls)/took.Seconds(), calls, workers, took.Seconds())
	return nil
}

func measureManagementFloor(ctx context.Context, calls, workers int) error {
	cluster, err := controlplane.Start(ctx, controlplane.Options{Install: []string{"config/crd"}})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	c, err := cluster.Client()
	if err != nil {
		return err
	}
	pepper, err := credential.NewPepper(rand.Reader)
	if err != nil {
		return err
	}
	err = callRate(ctx, "floor: apply a client and its status", workers, calls, func(n int) error { return applyBare(ctx, c, pepper, n) })
	if err != nil {
		return err
	}
	err = callRate(ctx, "floor: get a client", workers, calls, func(n int) error {
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: nameOf(n)}, &v1alpha1.M2MClient{})
	})
	if err != nil {
		return err
	}
	return callRate(ctx, fmt.Sprintf("floor: list a page of %d", managementPage), workers, calls, func(int) error {
		return c.List(ctx, &v1alpha1.M2MClientList{}, client.InNamespace("default"), client.Limit(managementPage))
	})
}

// applyBare writes what the management API and the controller write of a new client.
func applyBare(ctx context.Context, c client.Client, pepper *credential.Pepper, n int) error {
	name := nameOf(n)
	d, _, err := credential.NewDeposit(time.Now(), rand.Reader, pepper, credential.Place{Namespace: "default", Name: name}, credential.First{ClientID: name})
	if err != nil {
		return err
	}
	text, err := journal.FormatDeposit(d)
	if err != nil {
		return err
	}
	manifest := ac.M2MClient(name, "default").
		WithAnnotations(map[string]string{v1alpha1.AnnotationCredential: text}).
		WithSpec(ac.M2MClientSpec().WithDisplayName("Billing").WithScopes("read:cards").
			WithSecret(ac.SecretSpec().WithDelivery(v1alpha1.DeliveryNone)))
	if err := c.Apply(ctx, manifest, client.FieldOwner(v1alpha1.ManagementAPI)); err != nil {
		return err
	}
	status := &v1alpha1.M2MClientStatus{}
	journal.Write(status, credential.Record{ClientID: name, Credentials: d.Credentials, LastNumber: 1, Sequence: 1, Seal: d.Seal})
	status.ObservedGeneration = 1
	status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonIssued,
		Message: "the client has the secret that the management API made, and no Secret", LastTransitionTime: metav1.Now(), ObservedGeneration: 1,
	}}
	body, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	m2m := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	return c.Status().Patch(ctx, m2m, client.RawPatch("application/merge-patch+json", body))
}

// management calls the management API.
type management struct {
	*installation.Installation
	url  string
	http *http.Client
}

func (m *management) call(ctx context.Context, method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, m.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.SetBasicAuth(m.ProjectID, m.ProjectSecret)
	response, err := m.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: HTTP %d %s", method, path, response.StatusCode, text)
	}
	return json.Unmarshal(text, into)
}

// measure makes clients, and finds them again.
func (m *management) measure(ctx context.Context, calls, workers int) error {
	var discarded any
	if err := m.call(ctx, http.MethodPost, "/v1/m2m/clients/search", "{}", &discarded); err != nil {
		return err // the project secret isn't known
	}
	ids := make([]string, calls)
	err := callRate(ctx, "create", workers, calls, func(n int) error {
		var made struct {
			Client struct {
				ID string `json:"client_id"`
			} `json:"m2m_client"`
		}
		err := m.call(ctx, http.MethodPost, "/v1/m2m/clients", `{"client_name":"Billing","scopes":["read:cards"]}`, &made)
		ids[n] = made.Client.ID
		return err
	})
	if err != nil {
		return err
	}
	err = callRate(ctx, "get", workers, calls, func(n int) error {
		var found any
		return m.call(ctx, http.MethodGet, "/v1/m2m/clients/"+ids[n], "", &found)
	})
	if err != nil {
		return err
	}
	return callRate(ctx, fmt.Sprintf("search, a page of %d", managementPage), workers, calls, func(int) error {
		var found any
		return m.call(ctx, http.MethodPost, "/v1/m2m/clients/search", fmt.Sprintf(`{"limit":%d}`, managementPage), &found)
	})
}

// measureSearch makes many clients, and takes the time of searches, one after the other.
func (m *management) measureSearch(ctx context.Context, clients int) error {
	if clients == 0 {
		return nil
	}
	progress("Making %d clients", clients)
	err := inParallel(ctx, clients, func(n int) error {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: installation.APINamespace, Name: nameOf(n)}}
		c.Spec.DisplayName, c.Spec.Scopes = fmt.Sprintf("Client %d", n%1000), []string{fmt.Sprintf("read:%d", n%100), "write:all"}
		c.Spec.Secret = &v1alpha1.SecretSpec{Delivery: v1alpha1.DeliveryNone}
		c.Spec.WorkloadIdentities = []v1alpha1.WorkloadIdentity{{ServiceAccountName: "default"}}
		return m.Create(ctx, c)
	})
	if err != nil {
		return err
	}
	if err := m.showAll(ctx); err != nil {
		return err
	}
	for {
		total, _, err := m.search(ctx, `{}`)
		if err != nil {
			return err
		}
		if total >= clients {
			break
		}
		progress("%d are there", total)
		if err := sleep(ctx, 10*time.Second); err != nil {
			return err
		}
	}
	for _, query := range []struct{ name, body string }{
		{"all, the first page", `{}`},
		{"by name", `{"query":{"operator":"AND","operands":[{"filter_name":"client_name","filter_value":["Client 7"]}]}}`},
		{"by scope", `{"query":{"operator":"AND","operands":[{"filter_name":"scopes","filter_value":["read:7"]}]}}`},
		{"by name or scope", `{"query":{"operator":"OR","operands":[{"filter_name":"client_name","filter_value":["Client 7"]},{"filter_name":"scopes","filter_value":["read:9"]}]}}`},
		{"a page of 1000", `{"limit":1000}`},
	} {
		var took []time.Duration
		var total int
		for range 50 {
			found, d, err := m.search(ctx, query.body)
			if err != nil {
				return err
			}
			took, total = append(took, d), found
		}
		fmt.Printf("search of %d, %s (%d found): %s\n", clients, query.name, total, distribution(took))
	}
	return nil
}

// search returns how many were found, and how long that took.
func (m *management) search(ctx context.Context, body string) (int, time.Duration, error) {
	var found struct {
		Results struct {
			Total int `json:"total"`
		} `json:"results_metadata"`
	}
	start := time.Now()
	err := m.call(ctx, http.MethodPost, "/v1/m2m/clients/search", body, &found)
	return found.Results.Total, time.Since(start), err
}

// showAll lets the holder of the project secret see clients that the API didn't make.
func (m *management) showAll(ctx context.Context) error {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "bench-see-clients"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.SchemeGroupVersion.Group}, Resources: []string{"m2mclients"}, Verbs: []string{"get"},
	}}}
	if err := m.Create(ctx, role); err != nil {
		return err
	}
	return m.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: v1alpha1.ProjectUserPrefix + m.ProjectID}},
	})
}
