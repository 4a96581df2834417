package tokenserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

const traceID = "0123456789abcdef0123456789abcdef"

// traces records what is told of requests that are followed.
type traces struct{ told []string }

func (*traces) ID() string { return traceID }

func (tr *traces) Answer(operation, issuer, client, outcome string, status int) {
	tr.told = append(tr.told, fmt.Sprint(operation, " ", issuer, " ", client, " ", outcome, " ", status))
}

type traceKey struct{}

// brokenRevocations checks that revocations get the trace's context.
type brokenRevocations struct{ seen bool }

func (b *brokenRevocations) Revoke(ctx context.Context, _, _ string, _ [32]byte, _ time.Time) error {
	b.seen = ctx.Value(traceKey{}) == true
	return fmt.Errorf("no answer")
}

// A followed request is told of with the client that authenticated, and never with what a
// stranger says that it is; logs name its trace. Others cost nothing and say nothing.
func TestTrace(t *testing.T) {
	tr, follow, revoked := &traces{}, true, &brokenRevocations{}
	f := newFixture(t, func(c *Config, _ *http.Server) {
		c.Revocations = revoked
		c.Tracer = func(r *http.Request, operation string) (context.Context, Trace) {
			ctx := context.WithValue(r.Context(), traceKey{}, true)
			if !follow {
				return ctx, nil
			}
			tr.told = append(tr.told, "begins "+operation)
			return ctx, tr
		}
	})
	send := func(path, form string) string {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form))
		r.Header.Set("Content-Type", formType)
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		return w.Body.String()
	}
	authenticated := strings.TrimPrefix(goodForm, "grant_type=client_credentials&")
	answer := send(tokenPath, goodForm)
	send(tokenPath, strings.Replace(goodForm, clientID, "a-stranger", 1))
	send("/v1/public/a-stranger/oauth2/token", goodForm)
	_, token, _ := strings.Cut(answer, `"access_token":"`)
	token, _, _ = strings.Cut(token, `"`)
	send(strings.TrimSuffix(tokenPath, "token")+"revoke", authenticated+"&token="+token)
	want := []string{
		"begins token", "token default " + clientID + " issued 200",
		"begins token", "token default  invalid_client 401",
		"begins token", "token   invalid_request 404",
		"begins revocation", "revocation default " + clientID + " temporarily_unavailable 503",
	}
	if !slices.Equal(tr.told, want) {
		t.Errorf("told\n%s\nnot\n%s", strings.Join(tr.told, "\n"), strings.Join(want, "\n"))
	}
	if n := strings.Count(f.audit.String(), `","trace_id":"`+traceID+`","issuer":`); n != 4 {
		t.Errorf("%d of 4 audit lines name the trace:\n%s", n, f.audit)
	}
	if !revoked.seen || !strings.Contains(f.log.String(), "trace_id="+traceID) {
		t.Errorf("what is done for the request doesn't belong to its trace: %t %s", revoked.seen, f.log)
	}

	follow, tr.told = false, nil
	send(tokenPath, goodForm)
	if n := strings.Count(f.audit.String(), "trace_id"); n != 4 || len(tr.told) != 0 {
		t.Errorf("a request that isn't followed: %d, %q", n, tr.told)
	}
}
