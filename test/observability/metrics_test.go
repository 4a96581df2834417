package observability

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// scrape returns what a role shows.
func scrape(t *testing.T, at string) string {
	t.Helper()
	response, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", at, response.Status, err)
	}
	return string(body)
}

// busy brings about what metrics tell of.
func busy(t *testing.T) {
	t.Helper()
	newClient(t, "rotates-"+strings.ToLower(t.Name()), func(c *v1alpha1.M2MClient) {
		c.Spec.Rotation = &v1alpha1.RotationSpec{Interval: &metav1.Duration{Duration: 48 * time.Hour}}
	})
	stalled := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "stalled-" + strings.ToLower(t.Name())}}
	stalled.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: "nobody"}
	if err := operator.Create(t.Context(), stalled); err != nil {
		t.Fatal(err)
	}
	secret := newClient(t, "gets-"+strings.ToLower(t.Name()), nil)
	token := getToken(t, secret, nil)
	for _, endpoint := range []string{"introspect", "revoke"} {
		if status, members := post(t, endpoint, secret, nil, "token", token); status != http.StatusOK {
			t.Errorf("%s: %d %v", endpoint, status, members)
		}
	}
	manage(t, http.MethodPost, "/v1/m2m/clients/search", `{}`)
	eventually.Right(t, func() string {
		if shown := scrape(t, operator.MetricsURLs()["controller"]); !strings.Contains(shown, `m2m_managed_clients{ready="false",reason="IssuerNotFound"}`) {
			return "the stalled client isn't counted"
		}
		if shown := scrape(t, operator.MetricsURLs()["server"]); !strings.Contains(shown, `m2m_token_requests_total{issuer="default",outcome="issued"}`) {
			return "the token isn't counted"
		}
		return ""
	})
}

// What others register breaks Prometheus' conventions here and there.
var othersLint = regexp.MustCompile(`^(go|process|rest_client|workqueue|controller_runtime|certwatcher|leader_election)_`)

// All that we register keeps to Prometheus' conventions, and what a stranger sends is in no
// label.
func TestMetricsLint(t *testing.T) {
	busy(t)
	status, _ := call(t, http.MethodPost, "/v1/public/project-of-a-stranger/oauth2/token", strings.NewReader("client_id=client-of-a-stranger"), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	})
	if status != http.StatusNotFound {
		t.Errorf("an unknown project: %d", status)
	}
	for role, at := range operator.MetricsURLs() {
		text := scrape(t, at)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if !othersLint.MatchString(p.Metric) {
				t.Errorf("%s: %s: %s", role, p.Metric, p.Text)
			}
		}
		if strings.Contains(text, "stranger") {
			t.Errorf("%s: what a stranger sent is in a metric", role)
		}
		if !strings.Contains(text, "\nm2m_build_info{") {
			t.Errorf("%s: m2m_build_info is missing", role)
		}
	}
}

// sometimes are metrics that exist only when there is something to tell: the tests beside
// their code have them.
var sometimes = []string{
	"m2m_serving_certificate_not_after_timestamp_seconds", // cmd/m2m-operator: with TLS
	"m2m_previous_secret_deadline_timestamp_seconds",      // controllers: a replaced secret is in use
}

// The table of docs/operations.md has all that we register, and which role shows it.
func TestMetricsAreDocumented(t *testing.T) {
	busy(t)
	page, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{} // role and name
	for _, row := range regexp.MustCompile("(?m)^\\| (`m2m_.*?) \\| (.*?) \\|").FindAllStringSubmatch(string(page), -1) {
		roles := strings.Split(strings.ToLower(row[2]), ", ")
		if row[2] == "all" {
			roles = slices.Collect(maps.Keys(operator.MetricsURLs()))
		}
		for name := range strings.SplitSeq(row[1], ", ") {
			for _, role := range roles {
				documented[role+" "+strings.Trim(name, "`")] = true
			}
		}
	}
	for role, at := range operator.MetricsURLs() {
		for _, line := range regexp.MustCompile(`(?m)^# TYPE (m2m_\S+)`).FindAllStringSubmatch(scrape(t, at), -1) {
			if key := role + " " + line[1]; !documented[key] {
				t.Errorf("docs/operations.md doesn't say that the %s shows %s", role, line[1])
			} else {
				delete(documented, key)
			}
		}
	}
	for key := range documented {
		if _, name, _ := strings.Cut(key, " "); !slices.Contains(sometimes, name) {
			t.Errorf("docs/operations.md has %s, which isn't shown", key)
		}
	}
}

// exposed are the names of all that the roles show.
func exposed(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{"up": true} // Prometheus' own
	for _, name := range sometimes {
		names[name] = true
	}
	for _, at := range operator.MetricsURLs() {
		for line := range strings.Lines(scrape(t, at)) {
			if !strings.HasPrefix(line, "#") {
				names[line[:strings.IndexAny(line, "{ ")]] = true
			}
		}
	}
	return names
}

var (
	quoted   = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	matchers = regexp.MustCompile(`\{[^}]*\}`)
	grouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word     = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(\s*\()?`)
	operands = map[string]bool{"and": true, "or": true, "unless": true, "bool": true, "offset": true}
	span5m   = regexp.MustCompile(`\[[^\]]*\]`)
)

// metricsIn are the names of the metrics in an expression.
func metricsIn(expr string) []string {
	for _, noise := range []*regexp.Regexp{quoted, matchers, span5m, grouping} {
		expr = noise.ReplaceAllString(expr, " ")
	}
	var names []string
	for _, name := range word.FindAllString(expr, -1) {
		if !strings.HasSuffix(name, "(") && !operands[name] { // no function
			names = append(names, name)
		}
	}
	return names
}

// Alerts and dashboard go by nothing that no role shows.
func TestNamesExist(t *testing.T) {
	busy(t)
	var expressions []string
	for _, r := range alerts(t) {
		expressions = append(expressions, r.Expr)
	}
	expressions = append(expressions, dashboardExpressions(t)...)
	wanted := map[string]bool{}
	for _, e := range expressions {
		names := metricsIn(e)
		if len(names) == 0 {
			t.Errorf("%s: no metric", e)
		}
		for _, name := range names {
			wanted[name] = true
		}
	}
	if len(wanted) < 30 {
		t.Errorf("only %d metrics were found in %d expressions", len(wanted), len(expressions))
	}
	known := exposed(t)
	for name := range wanted {
		if !known[name] {
			t.Errorf("no role shows %s", name)
		}
	}
}
