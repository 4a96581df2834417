// Package observability tests what the operator shows of itself: metrics, alerts, the
// dashboard and traces, as the real roles show them.
package observability

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// operator is what all tests look at; collected is where its traces go.
var (
	operator  *installation.Installation
	collected *receiver
)

const root = "../.."

func TestMain(m *testing.M) { installation.Main(m, start) }

func start(ctx context.Context, dir string) (stop func() error, err error) {
	binary := filepath.Join(dir, "m2m-operator")
	if err := installation.Build(ctx, binary); err != nil {
		return nil, err
	}
	collected = newReceiver()
	traced := []string{"--otlp-endpoint", collected.URL, "--trace-sample-ratio", "1"}
	operator, err = installation.Start(ctx, installation.Options{
		Dir: filepath.Join(dir, "operator"), Binary: binary, Servers: 1, ManagementAPI: true,
		ControllerArgs: traced, ServerArgs: traced, APIArgs: traced,
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		defer collected.Close()
		return operator.Stop()
	}, nil
}

// newClient makes a client in the namespace `default`, and returns its Secret.
func newClient(t *testing.T, name string, change func(*v1alpha1.M2MClient)) *corev1.Secret {
	t.Helper()
	c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if change != nil {
		change(c)
	}
	if err := operator.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{}
	eventually.Right(t, func() string {
		if err := operator.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
			return err.Error()
		}
		if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Sprintf("%s isn't ready: %v", name, c.Status.Conditions)
		}
		if err := operator.Get(t.Context(), client.ObjectKeyFromObject(c), secret); err != nil && !apierrors.IsNotFound(err) {
			return err.Error()
		}
		return ""
	})
	return secret
}

// call sends a request to the server, and returns the answer's status and members.
func call(t *testing.T, method, path string, body io.Reader, change func(*http.Request)) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, operator.Servers[0].URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	members := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&members); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, members
}

// getToken asks for a token until the server knows the client.
func getToken(t *testing.T, secret *corev1.Secret, header http.Header) string {
	t.Helper()
	token := ""
	eventually.Right(t, func() string {
		status, members := post(t, "token", secret, header, "grant_type", "client_credentials")
		if status != http.StatusOK {
			return fmt.Sprintf("%d %v", status, members)
		}
		token, _ = members["access_token"].(string)
		return ""
	})
	return token
}

// post asks an endpoint of the issuer as a client; more are parameters and their values.
func post(t *testing.T, endpoint string, secret *corev1.Secret, header http.Header, more ...string) (int, map[string]any) {
	t.Helper()
	form := url.Values{"client_id": {string(secret.Data["client_id"])}, "client_secret": {string(secret.Data["client_secret"])}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return call(t, http.MethodPost, "/v1/public/"+operator.ProjectID+"/oauth2/"+endpoint, strings.NewReader(form.Encode()), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		maps.Copy(r.Header, header)
	})
}

// manage makes a call of the management API by the server.
func manage(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	status, members := call(t, method, path, strings.NewReader(body), func(r *http.Request) {
		r.SetBasicAuth(operator.ProjectID, operator.ProjectSecret)
		r.Header.Set("Content-Type", "application/json")
	})
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %v", method, path, status, members)
	}
	return members
}
