package observability

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// rule is an alert.
type rule struct {
	Alert       string            `json:"alert,omitempty"`
	Record      string            `json:"record,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type ruleGroup struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

func ruleGroups(t *testing.T) []ruleGroup {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "config/prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		Spec struct {
			Groups []ruleGroup `json:"groups"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object.Spec.Groups
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var all []rule
	for _, g := range ruleGroups(t) {
		all = append(all, g.Rules...)
	}
	return all
}

// promtool runs Prometheus' own checks on a file.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	tool, err := filepath.Abs(filepath.Join(root, "bin/promtool"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		t.Skip("there is no bin/promtool: make bin/promtool builds it")
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func writeRules(t *testing.T, file string, groups []ruleGroup) {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"groups": groups})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Each alert says what it is about and what to do, and promtool finds nothing wrong.
func TestRulesAreWhole(t *testing.T) {
	runbooks, err := os.ReadFile(filepath.Join(root, "docs/runbooks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if want := "docs/runbooks.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q", r.Alert, r.Annotations["runbook_url"])
		}
		if !strings.Contains(string(runbooks), "\n## "+r.Alert+"\n") {
			t.Errorf("docs/runbooks.md has no section %s", r.Alert)
		}
	}
	for line := range strings.Lines(string(runbooks)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "## M2M"); ok &&
			!slices.ContainsFunc(alerts(t), func(r rule) bool { return r.Alert == "M2M"+name }) {
			t.Errorf("docs/runbooks.md has M2M%s, which is no alert", name)
		}
	}
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"), ruleGroups(t))
	promtool(t, dir, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
}

// Each alert fires on series that call for it, and doesn't on others; testdata has them.
func TestRulesFire(t *testing.T) {
	groups := ruleGroups(t)
	for _, g := range groups {
		for i := range g.Rules {
			g.Rules[i].Annotations = nil // their wording needs no test, and would have to be repeated
		}
	}
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"), groups)
	text, err := os.ReadFile("testdata/rules_test.yaml")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rules_test.yaml"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "test", "rules", "rules_test.yaml")

	var cases struct {
		Tests []struct {
			Alerts []struct {
				Name  string `json:"alertname"`
				Fires []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range cases.Tests {
		for _, a := range c.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Fires) > 0
			quiet[a.Name] = quiet[a.Name] || len(a.Fires) == 0
		}
	}
	for _, r := range alerts(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: tested that it fires: %t, that it doesn't: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

// dashboard is what tests look at of it.
type dashboard struct {
	SchemaVersion int `json:"schemaVersion"`
	Panels        []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ H, W, X, Y int }
		Targets []struct {
			Expr       string            `json:"expr"`
			Datasource map[string]string `json:"datasource"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "config/prometheus/dashboard.json"))
	d := dashboard{}
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dashboardExpressions are the queries, with the variables of Grafana filled in.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	fill := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "m2m-system", "$issuer", "default")
	var all []string
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	return all
}

// Each panel has queries that Prometheus understands and a place of its own.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q: an id twice, no title, or no query", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			if target.Datasource["uid"] != "${datasource}" || !strings.Contains(target.Expr, `namespace=~"$namespace"`) {
				t.Errorf("%q asks another data source, or other namespaces: %s", p.Title, target.Expr)
			}
		}
	}
	if len(d.Templating.List) != 3 {
		t.Errorf("%d variables", len(d.Templating.List))
	}
	group := ruleGroup{Name: "dashboard"}
	for _, e := range dashboardExpressions(t) {
		group.Rules = append(group.Rules, rule{Record: "m2m:panel:" + string(rune('a'+len(group.Rules)%26)) + string(rune('a'+len(group.Rules)/26)), Expr: e})
	}
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"), []ruleGroup{group})
	promtool(t, dir, "check", "rules", "rules.yaml")
}
