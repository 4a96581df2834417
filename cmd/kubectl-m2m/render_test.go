package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/printers"
)

var renderedAt = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

const shownClient = `{
  "metadata": {"name": "billing", "namespace": "shop", "generation": 4, "creationTimestamp": "2026-08-23T08:00:00Z", "managedFields": [
    {"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:scopes": {}, "f:rotation": {"f:interval": {}}}}},
    {"manager": "kubectl-m2m", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": {"f:m2m-operator.dev/rotate": {}}}}},
    {"manager": "m2m-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {"f:clientID": {}}}}]},
  "spec": {
    "displayName": "Billing service", "description": "Charges cards, and\nasks the ledger what was paid when, for whom and by which of the cards",
    "scopes": ["charge:cards", "read:ledger"], "rotation": {"interval": "2160h"},
    "workloadIdentities": [{"serviceAccountName": "billing"}], "publicKeys": {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1"}]}
  },
  "status": {
    "observedGeneration": 4, "clientID": "m2m-client-live-4cde5c9f-9d2d-44f0-8bd8-3d1a2f1d0e6b", "issuer": "https://auth.example.com",
    "tokenURL": "https://auth.example.com/v1/public/project-live-1/oauth2/token", "secretName": "billing",
    "grantedScopes": ["charge:cards"], "lastRotationTime": "2026-11-23T06:00:00Z", "nextRotationTime": "2027-02-18T06:00:00Z",
    "tokensNotBefore": "2026-11-01T00:00:00Z",
    "conditions": [
      {"type": "PreviousSecretInUse", "status": "True", "reason": "InUse", "message": "version 2-NcO2 of the secret was replaced and stays valid"},
      {"type": "Ready", "status": "False", "reason": "NotGranted", "message": "the ClusterM2MIssuer \"default\" doesn't grant the scope \"read:ledger\" to the namespace \"shop\""},
      {"type": "Stalled", "status": "True", "reason": "NotGranted", "message": ""}],
    "effective": {"issuerName": "default", "state": "Active", "delivery": "Secret", "audiences": ["project-live-1"], "tokenLifetime": "1h30m0s"},
    "credentials": [
      {"version": "4-x8Fa", "role": "Next", "createdAt": "2026-11-23T07:59:58Z"},
      {"version": "3-QqNU", "role": "Current", "createdAt": "2026-11-23T06:00:00Z"},
      {"version": "2-NcO2", "role": "Previous", "createdAt": "2026-08-25T06:00:00Z", "retireAfter": "2026-11-22T08:00:00Z", "notAfter": "2027-02-21T08:00:00Z"},
      {"version": "1-FjdU", "role": "Previous", "createdAt": "2026-08-23T08:00:00Z", "notAfter": "2026-11-23T10:00:00Z"}],
    "usage": [{"version": "2-NcO2", "lastUsedAt": "2026-11-23T07:30:00Z"}, {"version": "service_account", "lastUsedAt": "2026-11-20T08:00:00Z"}]
  }
}`

func shownEventsOf() []eventsv1.Event {
	at := func(ago time.Duration) metav1.MicroTime { return metav1.NewMicroTime(renderedAt.Add(-ago)) }
	return []eventsv1.Event{
		{EventTime: at(3 * time.Hour), Type: "Warning", Reason: "NotGranted", Note: "it asks for more than it gets", Series: &eventsv1.EventSeries{Count: 3, LastObservedTime: at(2 * time.Hour)}},
		{EventTime: at(time.Minute), Type: "Normal", Reason: "SecretRotated", Note: "Secret billing holds a new secret, version 3-QqNU; the one before stays valid for 24h0m0s at least"},
	}
}

// The page as a person sees it. UPDATE=1 writes it anew, to be read before it is kept.
func TestRender(t *testing.T) {
	got := render(view{client: clientOf(t, shownClient), events: shownEventsOf()}, renderedAt, false)
	golden := filepath.Join("testdata", "get.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page is not %s:\n%s", golden, got)
	}
	for line := range strings.Lines(got) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > columns {
			t.Errorf("more than %d columns: %s", columns, line)
		}
		if strings.TrimRight(line, " \n")+"\n" != line {
			t.Errorf("spaces at the end of %q", line)
		}
	}
	if coloured := render(view{client: clientOf(t, shownClient)}, renderedAt, true); !strings.Contains(coloured, "\x1b[31mread:ledger  (not granted)\x1b[0m") {
		t.Error("what isn't granted has no colour")
	}
}

// Where little is known, little is claimed.
func TestRenderUnknown(t *testing.T) {
	got := render(view{client: clientOf(t, `{"metadata": {"name": "new", "namespace": "shop", "generation": 1}, "spec": {"scopes": ["a"]}}`), noEvents: "you may not"}, renderedAt, false)
	for _, want := range []string{"has not seen its present manifest", "not delivered yet", "not shown: you may not"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "not granted") {
		t.Error("says that scopes are not granted before that is known")
	}
}

// Tenants write names, descriptions and field managers, and must not speak to the
// terminal of who looks.
func FuzzRender(f *testing.F) {
	f.Add("\x1b[2J", "a\x1b]0;owned\x07", "\u202Ereversed", "\u009b31m")
	f.Fuzz(func(t *testing.T, name, description, version, note string) {
		c := clientOf(t, shownClient)
		c.Spec.DisplayName, c.Spec.Description, c.Status.Credentials[0].Version, c.Status.Conditions[1].Message = name, description, version, note
		c.Status.ClientID, c.Status.TokenURL, c.Spec.Scopes[0], c.ManagedFields[0].Manager = note, name, version, description
		got := render(view{client: c, events: []eventsv1.Event{{Reason: version, Note: note}}}, renderedAt, false)
		for _, r := range got {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202E || r == 0x2066) {
				t.Fatalf("%U in %q", r, got)
			}
		}
	})
}

func TestClientTable(t *testing.T) {
	items := []unstructured.Unstructured{
		*objectOf(t, shownClient),
		*objectOf(t, `{"metadata": {"name": "new", "namespace": "shop", "generation": 1, "creationTimestamp": "2026-11-23T07:59:55Z"}, "spec": {"state": "Inactive"}}`),
	}
	for _, test := range []struct {
		namespace, wide bool
		want            string
	}{
		{false, false, `
NAME      CLIENT ID                                              STATE      READY     REASON       SCOPES   ROTATES   LAST USED   AGE
billing   m2m-client-live-4cde5c9f-9d2d-44f0-8bd8-3d1a2f1d0e6b   Active     False     NotGranted   2        in 86d    30m         92d
new                                                              Inactive   Unknown   NotSeenYet   0                              5s
`},
		{true, true, `
NAMESPACE   NAME      CLIENT ID                                              STATE      READY     REASON       SCOPES   ROTATES   LAST USED   AGE   ISSUER    SECRET    VERSION
shop        billing   m2m-client-live-4cde5c9f-9d2d-44f0-8bd8-3d1a2f1d0e6b   Active     False     NotGranted   2        in 86d    30m         92d   default   billing   3-QqNU
shop        new                                                              Inactive   Unknown   NotSeenYet   0                              5s                        
`},
	} {
		table, err := clientTable(items, test.namespace, renderedAt)
		if err != nil {
			t.Fatal(err)
		}
		out := &bytes.Buffer{}
		if err := printers.NewTablePrinter(printers.PrintOptions{Wide: test.wide}).PrintObj(table, out); err != nil {
			t.Fatal(err)
		}
		if squeeze(out.String()) != squeeze(test.want) {
			t.Errorf("\n%s", out)
		}
	}
}

// squeeze leaves the ends of lines out.
func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n")
}

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		want     string
	}{
		{false, "a\nb\n"},
		{true, "\r\x1b[Ka\r\x1b[Kb\r\x1b[K"},
	} {
		out := &bytes.Buffer{}
		p := &progress{w: out, terminal: test.terminal}
		for _, line := range []string{"a", "a", "b"} {
			p.say(line)
		}
		p.end()
		if out.String() != test.want {
			t.Errorf("%q", out)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Minute: "1h30m", 30 * time.Minute: "30m", 90 * time.Second: "1m30s", 24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s"} {
		if got := short(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
	if got := fmt.Sprint(wrap("a bb ccc dddddd", 4)); got != "[a bb ccc dddddd]" {
		t.Error(got)
	}
}
