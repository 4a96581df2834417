package integration

import (
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// Who fails too often is told to wait, and who has the right secret never is.
func TestFailureLimit(t *testing.T) {
	t.Parallel()
	c := shared.readyClient(t, nil)
	secret := shared.secret(t, c)
	shared.waitAccepted(t, secret)
	replica, err := shared.AddServer(t.Context(), filepath.Join(t.TempDir(), "audit.log"), "--failure-limit=5/1h")
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Stop(time.Minute)
	s := server{replica}
	url, id := string(secret.Data["token_url"]), string(secret.Data["client_id"])
	for n := range 8 {
		want := http.StatusUnauthorized
		if n >= 5 {
			want = http.StatusTooManyRequests
		}
		a := s.token(t, url, id, "wrong")
		if wait, err := strconv.Atoi(a.retryAfter); a.status != want || want == http.StatusTooManyRequests && (err != nil || wait < 1 || a.Error != "too_many_requests") {
			t.Errorf("wrong secret %d: %d %s, Retry-After %q", n, a.status, a.body, a.retryAfter)
		}
		if a := s.token(t, url, id, string(secret.Data["client_secret"])); a.status != http.StatusOK {
			t.Errorf("right secret after %d wrong ones: %d %s", n+1, a.status, a.body)
		}
	}
	if a := s.token(t, url, "m2m-client-test-unknown", "wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("another client: %d %s", a.status, a.body)
	}
}

// A client gets as many tokens as its issuer's quota says; what is refused doesn't count.
func TestQuotaOfTokens(t *testing.T) {
	t.Parallel()
	issuer := shared.newIssuer(t, func(spec *v1alpha1.ClusterM2MIssuerSpec) {
		spec.Token.Quota = &v1alpha1.TokenQuota{Tokens: 3, Per: metav1.Duration{Duration: time.Hour}}
	})
	one, other := shared.readyClient(t, of(issuer)), shared.readyClient(t, of(issuer))
	s := shared.servers()[0]
	ask := func(c *v1alpha1.M2MClient, scope string) answer {
		secret := shared.secret(t, c)
		return s.token(t, string(secret.Data["token_url"]), string(secret.Data["client_id"]), string(secret.Data["client_secret"]), "scope", scope)
	}
	eventually.Right(t, func() string { return ask(one, "").refusal() })
	for range 5 {
		if a := ask(one, "not:held"); a.status != http.StatusBadRequest {
			t.Error(a.body)
		}
	}
	for n := range 4 {
		a := ask(one, "")
		if wait, err := strconv.Atoi(a.retryAfter); n < 2 && a.status != http.StatusOK ||
			n >= 2 && (a.status != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 1200) {
			t.Errorf("token %d: %d %s, Retry-After %q", n+2, a.status, a.body, a.retryAfter)
		}
	}
	eventually.Right(t, func() string { return ask(other, "").refusal() })

	update(t, shared, issuer, func(i *v1alpha1.ClusterM2MIssuer) { i.Spec.Token.Quota = nil })
	eventually.Right(t, func() string { return ask(one, "").refusal() })
}
