package observability

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// Services, as traces name them.
const (
	aServer     = "m2m-operator-server"
	aController = "m2m-operator-controller"
	anAPI       = "m2m-operator-api"
)

// under waits for a span below another, of the same trace.
func under(t *testing.T, parent span, service, name string) span {
	t.Helper()
	return waitSpan(t, service+": "+name+" under "+parent.name, func(s span) bool {
		return s.trace == parent.trace && s.parent == parent.id && s.service == service && s.name == name
	})
}

func waitSpan(t *testing.T, what string, matches func(span) bool) span {
	t.Helper()
	var found []span
	eventually.Right(t, func() string {
		if found = collected.find(matches); len(found) == 0 {
			return "there is no span " + what
		}
		return ""
	})
	return found[0]
}

// A token request, a reconciliation with its calls of the API server, and a call of the
// management API that goes through a server are one trace each. A caller's own trace
// context isn't taken, and no secret is in what was sent.
func TestTraces(t *testing.T) {
	secret := newClient(t, "traced", nil)
	foreign := strings.Repeat("ab", 16)
	token := getToken(t, secret, http.Header{"Traceparent": {"00-" + foreign + "-" + strings.Repeat("cd", 8) + "-01"}})

	asked := waitSpan(t, "token", func(s span) bool {
		return s.service == aServer && s.name == "token" && s.attributes["m2m.outcome"] == "issued" && s.attributes["m2m.client_id"] == string(secret.Data["client_id"])
	})
	if asked.parent != "" || asked.trace == foreign {
		t.Errorf("a stranger's trace context was taken: %+v", asked)
	}
	audit, err := os.ReadFile(operator.Servers[0].Audit)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(audit), `"trace_id":"`+asked.trace+`"`) {
		t.Errorf("no audit line names the trace %s:\n%s", asked.trace, audit)
	}

	made := waitSpan(t, "of a Secret", func(s span) bool {
		if s.service != aController || s.name != "POST secrets" {
			return false
		}
		return len(collected.find(func(p span) bool { return p.id == s.parent && p.attributes["k8s.object.name"] == "traced" })) == 1
	})
	reconciled := waitSpan(t, "of the reconciliation", func(s span) bool { return s.id == made.parent })
	if reconciled.name != "reconcile m2mclient" || reconciled.parent != "" || reconciled.attributes["k8s.namespace.name"] != "default" {
		t.Errorf("%+v", reconciled)
	}
	under(t, reconciled, aController, "PUT m2mclients/status")

	answer := manage(t, http.MethodPost, "/v1/m2m/clients", `{"scopes": ["read:settings"], "client_name": "a name that a caller chose"}`)
	created := waitSpan(t, "management create", func(s span) bool { return s.service == anAPI && s.name == "management create" })
	sent := waitSpan(t, "management call", func(s span) bool { return s.id == created.parent })
	if sent.service != aServer || sent.name != "management call" || sent.trace != created.trace {
		t.Errorf("%+v is not the server's call", sent)
	}
	came := waitSpan(t, "management forward", func(s span) bool { return s.id == sent.parent })
	if came.service != aServer || came.name != "management forward" || came.parent != "" || came.trace != created.trace {
		t.Errorf("%+v is not the request that the server got", came)
	}
	if len(collected.find(func(s span) bool { return s.trace == created.trace && s.parent == created.id && s.service == anAPI })) == 0 {
		t.Error("the trace has no call of the API server")
	}

	made2, _ := answer["m2m_client"].(map[string]any)
	id, _ := made2["client_id"].(string)
	text, _ := made2["client_secret"].(string)
	everything := collected.bytes()
	if id == "" || !bytes.Contains(everything, []byte(id)) {
		t.Errorf("the client %q is nowhere in what was sent: what is looked for here would not be found either", id)
	}
	for what, text := range map[string]string{
		"a client secret": string(secret.Data["client_secret"]), "a token": token, "a token's signature": token[strings.LastIndexByte(token, '.')+1:],
		"the secret of a new client": text, "a project secret": operator.ProjectSecret, "a name that a caller chose": "a name that a caller chose",
	} {
		if text == "" || bytes.Contains(everything, []byte(text)) {
			t.Errorf("%s is in the traces, or empty", what)
		}
	}
}
