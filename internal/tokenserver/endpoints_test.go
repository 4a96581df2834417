package tokenserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

const (
	introspectionPath = "/v1/public/" + projectID + "/oauth2/introspect"
	revocationPath    = "/v1/public/" + projectID + "/oauth2/revoke"
)

func postTo(path, body string) string {
	return request(http.MethodPost, path, body, "Content-Type", formType)
}

// TestIntrospectAndRevoke: a client hears of its token and revokes it, and nobody does
// who doesn't authenticate.
func TestIntrospectAndRevoke(t *testing.T) {
	f := newFixture(t, nil)
	mine := "client_id=" + clientID + "&client_secret=" + secret
	signed := f.send(t, post(goodForm)).body.AccessToken
	a := f.send(t, postTo(introspectionPath, mine+"&token="+signed))
	if a.status != http.StatusOK || !strings.HasPrefix(a.raw, `{"active":true,"token_type":"bearer","iss":"https://auth.example.com","sub":"`+clientID+`"`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	checkNotKept(t, a)
	if a := f.send(t, postTo(introspectionPath, mine+"&token=other&token_type_hint=access_token")); a.status != http.StatusOK || a.raw != `{"active":false}` {
		t.Errorf("%d %s", a.status, a.raw)
	}
	a = f.send(t, postTo(revocationPath, mine+"&token="+signed))
	if a.status != http.StatusOK || len(f.revoked.all) != 1 || !strings.HasPrefix(f.revoked.all[0], "default "+clientID+" ") {
		t.Errorf("%d %s, revoked %q", a.status, a.raw, f.revoked.all)
	}
	if line := f.audited(t, a); line.Event != "revocation" || line.Outcome != "revoked" || line.ClientID != clientID || len(line.Digest) != 43 {
		t.Errorf("%+v", line)
	}
	a = f.send(t, postTo(revocationPath, mine+"&token=other"))
	if line := f.audited(t, a); a.status != http.StatusOK || line.Outcome != "unchanged" || len(f.revoked.all) != 1 {
		t.Errorf("%d %+v", a.status, line)
	}
	for _, path := range []string{introspectionPath, revocationPath} {
		checkRefusal(t, f.send(t, postTo(path, mine)), http.StatusBadRequest, "invalid_request")
		checkRefusal(t, f.send(t, postTo(path, "token="+signed)), http.StatusUnauthorized, "invalid_client")
		checkRefusal(t, f.send(t, postTo(path, mine+"x&token="+signed)), http.StatusUnauthorized, "invalid_client")
		checkRefusal(t, f.send(t, postTo(path, "client_id=inactive&client_secret="+secret+"&token="+signed)), http.StatusUnauthorized, "invalid_client")
		checkRefusal(t, f.send(t, postTo(path+"?token="+signed, mine)), http.StatusBadRequest, "invalid_request")
		checkRefusal(t, f.send(t, postTo(path, mine+"&token="+signed+"&token=a")), http.StatusBadRequest, "invalid_request")
		checkRefusal(t, f.send(t, request(http.MethodGet, path, "")), http.StatusMethodNotAllowed, "invalid_request")
	}
	if logs := f.audit.String() + f.log.String(); strings.Contains(logs, signed[len(signed)-40:]) {
		t.Error("a token is in the logs")
	}
	// Whoever authenticates uses its secret, with whatever endpoint.
	if uses := strings.Count(f.used.String(), "default "+clientID+" 1-0tXx"); uses != 5 {
		t.Errorf("%d uses of the secret, not 5", uses)
	}
}

// TestRevocationFails: a revocation that isn't durable is never answered as if it were.
func TestRevocationFails(t *testing.T) {
	f := newFixture(t, nil)
	form := "client_id=" + clientID + "&client_secret=" + secret + "&token=" + f.send(t, post(goodForm)).body.AccessToken
	f.revoked.fail = errors.New("the API server is away")
	checkRefusal(t, f.send(t, postTo(revocationPath, form)), http.StatusServiceUnavailable, "temporarily_unavailable")
	f.revoked.fail = token.ErrTooManyRevoked
	a := f.send(t, postTo(revocationPath, form))
	checkRefusal(t, a, http.StatusBadRequest, "invalid_request")
	if !strings.Contains(a.body.Description, "spec.token.notBefore") {
		t.Errorf("%s", a.raw)
	}
}

// TestTargetParameters: `resource` and `audience` may come more than once.
func TestTargetParameters(t *testing.T) {
	f := newFixture(t, nil)
	for query, status := range map[string]int{
		"resource=" + projectID:                              http.StatusOK,
		"audience=" + projectID + "&resource=" + projectID:   http.StatusOK,
		"resource=" + url.QueryEscape("https://example.com"): http.StatusBadRequest,
		"resource=" + projectID + "&audience=other":          http.StatusBadRequest,
		"resource=" + projectID + "&scope=a&scope=b":         http.StatusBadRequest,
		"audience=": http.StatusOK,
	} {
		if a := f.send(t, post(goodForm+"&"+query)); a.status != status {
			t.Errorf("%s: %d %s", query, a.status, a.raw)
		}
	}
}

// reviewer answers as a test wants it.
type reviewer struct {
	valid bool
	err   error
	asked int
}

func (r *reviewer) Review(context.Context, string, string) (bool, error) {
	r.asked++
	return r.valid, r.err
}

// TestReviewer: only ServiceAccount tokens are asked about.
func TestReviewer(t *testing.T) {
	r := &reviewer{}
	f := newFixture(t, func(c *Config, _ *http.Server) { c.Reviewer = r })
	if a := f.send(t, post(goodForm)); a.status != http.StatusOK || r.asked > 0 {
		t.Errorf("a secret: %d, asked %d times", a.status, r.asked)
	}
	for _, test := range []struct {
		reviewer reviewer
		want     error
	}{{reviewer{valid: true}, nil}, {reviewer{}, errReviewed}, {reviewer{err: errors.New("forbidden")}, errNoReview}} {
		*r = test.reviewer
		x := &exchange{grant: token.Grant{Method: token.ByServiceAccount}, issuer: &token.Issuer{}}
		if err := f.handler.review(t.Context(), x); !errors.Is(err, test.want) || r.asked != 1 {
			t.Errorf("%+v: %v", test.reviewer, err)
		}
	}
}
