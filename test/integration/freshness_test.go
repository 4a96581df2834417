package integration

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/test/eventually"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// While the API server is away, servers give tokens to whom they know, and say of others
// that they can't tell.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	o := ownInstallation(t, installation.Options{})
	c := o.readyClient(t, nil)
	secret := o.secret(t, c)
	o.waitAccepted(t, secret)
	url, id, right := c.Status.TokenURL, string(secret.Data["client_id"]), string(secret.Data["client_secret"])
	o.waitAnswer(t, http.StatusUnauthorized, func(s server) answer { return s.token(t, url, "unknown", right) })

	o.Cluster.StopAPIServer()
	o.waitAnswer(t, http.StatusServiceUnavailable, func(s server) answer { return s.token(t, url, "unknown", right) })
	o.waitAnswer(t, http.StatusServiceUnavailable, func(s server) answer { return s.token(t, url, id, right+"x") })
	for _, s := range o.servers() {
		if a := s.token(t, url, id, right); a.status != http.StatusOK {
			t.Errorf("a client that is known: %s", a.body)
		}
		eventually.Right(t, func() string {
			if state := s.readiness(t); !strings.HasPrefix(state, "ok\n") || !strings.Contains(state, "watch of m2mclients: broken") {
				return state
			}
			return ""
		})
	}
	if err := o.Cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.waitAnswer(t, http.StatusUnauthorized, func(s server) answer { return s.token(t, url, "unknown", right) })
	for _, s := range o.servers() {
		eventually.Right(t, func() string {
			if state := s.readiness(t); strings.Contains(state, "broken") {
				return state
			}
			return ""
		})
	}
}

// readiness is what a replica says of itself.
func (s server) readiness(t *testing.T) string {
	t.Helper()
	response, err := http.Get(s.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
