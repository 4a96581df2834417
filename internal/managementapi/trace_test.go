package managementapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const traceID = "0123456789abcdef0123456789abcdef"

// traces records what is told of calls that are followed.
type traces struct{ told []string }

func (*traces) ID() string { return traceID }

func (tr *traces) Answer(operation, issuer, client, outcome string, status int) {
	tr.told = append(tr.told, fmt.Sprint(operation, " ", issuer, " ", client, " ", outcome, " ", status))
}

// A followed call is told of with what it does and with the client that there is, and
// never with what a stranger wrote; logs name its trace.
func TestTrace(t *testing.T) {
	tr, follow := &traces{}, true
	f := newFixture(t, func(c *Config) {
		c.Tracer = func(r *http.Request, _ string) (context.Context, Trace) {
			if !follow {
				return r.Context(), nil
			}
			return r.Context(), tr
		}
	})
	known := basic(projectID, projectSecret)
	f.do(t, http.MethodGet, "/v1/m2m/clients/"+aClient().ID, "", "Authorization", known)
	f.do(t, http.MethodGet, "/v1/m2m/clients/a-strangers-name", "", "Authorization", basic(projectID, "wrong"))
	f.do(t, http.MethodGet, "/v1/m2m/a-strangers-path", "", "Authorization", known)
	f.clients.err = fmt.Errorf("no idea")
	f.do(t, http.MethodDelete, "/v1/m2m/clients/"+aClient().ID, "", "Authorization", known)
	want := []string{
		"management get default " + aClient().ID + " ok 200",
		"management default  unauthorized_credentials 401",
		"management default  route_not_found 404",
		"management delete default  internal_server_error 500",
	}
	if !slices.Equal(tr.told, want) {
		t.Errorf("told\n%s\nnot\n%s", strings.Join(tr.told, "\n"), strings.Join(want, "\n"))
	}
	for _, line := range f.audited(t) {
		if line["trace_id"] != traceID {
			t.Errorf("%v names no trace", line)
		}
	}
	if !strings.Contains(f.log.String(), traceID) {
		t.Errorf("the log names no trace: %s", f.log)
	}
	follow, f.clients.err = false, nil
	f.do(t, http.MethodGet, "/v1/m2m/clients/"+aClient().ID, "", "Authorization", known)
	for _, line := range f.audited(t) {
		if _, named := line["trace_id"]; named {
			t.Errorf("%v names a trace", line)
		}
	}
}
