package install

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const chart = "charts/m2m-operator"

// template is what the chart makes of its values.
func template(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"template", "m2m-operator", filepath.Join(root, chart), "--namespace", operatorNamespace}, args...)
	return output(t, "helm", args...)
}

// valuesFiles are the sets of values that the chart is tried with.
func valuesFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, chart, "ci/*-values.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values to try: %v", err)
	}
	return files
}

// With its default values the chart is config/default, object by object, but for the
// operator's namespace, which Helm must find or make before it installs anything, and a
// note to Helm that it must leave alone what clients would go with.
func TestChartIsTheManifests(t *testing.T) {
	for _, test := range []struct {
		name   string
		want   string
		values []string
	}{
		{"config/default", build(t, "config/default"), nil},
		{"config/with-api", build(t, "config/with-api"), []string{"--set=api.enabled=true"}},
		{"config/prometheus", overlay(t, "components: [CONFIG/prometheus]"), []string{"--set=monitoring.enabled=true"}},
		{"config/closed", overlay(t, "components: [CONFIG/closed]"), []string{"--set=issuer.grants=Nothing"}},
		{"config/hpa", overlay(t, "components: [CONFIG/hpa]"), []string{"--set=server.autoscaling.enabled=true"}},
		{"config/restart and config/token-review", overlay(t, `resources: [CONFIG/default, CONFIG/restart, CONFIG/token-review]
patches:
  - target: {kind: Deployment, name: m2m-operator-server}
    patch: '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--token-review=30s"}]'
`), []string{"--set=controller.restartWorkloads=true,server.tokenReview=30s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := byName(t, test.want)
			delete(want, "Namespace /"+operatorNamespace)
			got := byName(t, template(t, test.values...))
			for _, o := range got {
				if keep(o) && o.GetAnnotations()["helm.sh/resource-policy"] != "keep" {
					t.Errorf("%s: uninstalling the release would delete clients", name(o))
				}
				annotations := o.GetAnnotations()
				delete(annotations, "helm.sh/resource-policy")
				if len(annotations) == 0 {
					annotations = nil
				}
				o.SetAnnotations(annotations)
			}
			for _, problem := range compare(want, got) {
				t.Error(problem)
			}
		})
	}
}

// A limited release has the rights of config/namespaced, and its flag.
func TestLimitedChartIsTheManifests(t *testing.T) {
	rights := func(all map[string]*unstructured.Unstructured) map[string]*unstructured.Unstructured {
		maps.DeleteFunc(all, func(_ string, o *unstructured.Unstructured) bool {
			return o.GroupVersionKind().Group != "rbac.authorization.k8s.io"
		})
		return all
	}
	want := rights(byName(t, build(t, "config/namespaced")))
	manifests := template(t, "--set=namespaces={team-b,team-a}")
	for _, problem := range compare(want, rights(byName(t, manifests))) {
		t.Error(problem)
	}
	if n := strings.Count(manifests, "--namespaces=team-a,team-b"); n != 2 {
		t.Errorf("%d roles are limited to the namespaces; want controller and server", n)
	}
}

func byName(t *testing.T, manifests string) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	for _, o := range objects(t, manifests) {
		if all[name(o)] != nil {
			t.Errorf("%s is there twice", name(o))
		}
		all[name(o)] = o
	}
	return all
}

func compare(want, got map[string]*unstructured.Unstructured) (problems []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] == nil {
			problems = append(problems, key+" is missing from the chart")
			continue
		}
		for _, difference := range differences("", want[key].Object, got[key].Object) {
			problems = append(problems, key+": "+difference)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if want[key] == nil {
			problems = append(problems, key+" is in the chart alone")
		}
	}
	return problems
}

// differences says where two values of JSON differ.
func differences(path string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		var all []string
		keys := maps.Clone(a)
		maps.Copy(keys, b)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			all = append(all, differences(path+"."+key, a[key], b[key])...)
		}
		return all
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			break
		}
		var all []string
		for i := range a {
			all = append(all, differences(fmt.Sprintf("%s[%d]", path, i), a[i], b[i])...)
		}
		return all
	}
	if fmt.Sprintf("%T %v", a, a) == fmt.Sprintf("%T %v", b, b) {
		return nil
	}
	return []string{fmt.Sprintf("%s is %v in config and %v in the chart", path, a, b)}
}

func TestChartLint(t *testing.T) {
	output(t, "helm", "lint", "--strict", "--namespace", operatorNamespace, filepath.Join(root, chart))
	for _, values := range valuesFiles(t) {
		output(t, "helm", "lint", "--strict", "--namespace", operatorNamespace, "--values", values, filepath.Join(root, chart))
	}
}

// A Prometheus selects by labels of its own, and alerts link to where the runbooks are kept.
func TestChartMonitoring(t *testing.T) {
	const runbooks = "https://wiki.example.com/runbooks"
	got := byName(t, template(t, "--set=monitoring.enabled=true,monitoring.labels.release=prometheus,monitoring.runbooks="+runbooks))
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule"} {
		o := got[kind+" "+operatorNamespace+"/m2m-operator"]
		if o == nil || o.GetLabels()["release"] != "prometheus" || o.GetLabels()["app.kubernetes.io/name"] != "m2m-operator" {
			t.Errorf("%s: %v", kind, o)
		}
	}
	rules, err := yaml.Marshal(got["PrometheusRule "+operatorNamespace+"/m2m-operator"])
	if links := strings.Count(string(rules), "runbook_url: "); err != nil || links == 0 || links != strings.Count(string(rules), "runbook_url: "+runbooks+"#m2m") {
		t.Errorf("%d links, %v", links, err)
	}
}

// A value that the chart doesn't know, or can't use, is an error and not a silence.
func TestChartRefusesValues(t *testing.T) {
	for _, set := range []string{
		"image.tagg=v1", "replicas=3", "server.replica=3", "controller.resources.request.cpu=1", "api.tls.own=false",
		"image.pullPolicy=Sometimes", "image.digest=latest", "issuer.url=http://auth.example.com", "issuer.url=https://auth.example.com/path",
		"issuer.environment=Production", "namespaces={Team_A}", "namespaces={a,a}", "logLevel=trace", "server.trustedProxies={everybody}",
		"server.replicas=0", "networkPolicy.apiServerPorts={0}", "priorityClass.value=2000000000", "server.extraArgs={rm}", "monitoring.runbooks=wiki",
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bin/helm"), "template", "m2m-operator", filepath.Join(root, chart), "--set", set)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "schema") {
			t.Errorf("--set %s is not refused by the schema: %v\n%.300s", set, err, out)
		}
	}
}

// README.md of the chart lists every value, and none that isn't there.
func TestChartValuesAreDocumented(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	values, err := os.ReadFile(filepath.Join(root, chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(readme)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for quoted := range strings.SplitSeq(cells[1], ",") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(quoted), "`"); ok {
				documented[strings.TrimSuffix(value, "`")] = true
			}
		}
	}
	all := objects(t, "kind: Values\n"+string(values))[0].Object
	delete(all, "kind")
	for _, value := range leaves("", all) {
		if !documented[value] {
			t.Errorf("README.md of the chart doesn't say what %s is", value)
		}
		delete(documented, value)
	}
	for value := range documented {
		t.Errorf("README.md of the chart has %s, which values.yaml has not", value)
	}
}

// leaves are the paths of values; resources are one value.
func leaves(path string, value any) []string {
	inner, ok := value.(map[string]any)
	if !ok || len(inner) == 0 || strings.HasSuffix(path, "resources") {
		return []string{path}
	}
	var all []string
	for key, v := range inner {
		all = append(all, leaves(strings.TrimPrefix(path+"."+key, "."), v)...)
	}
	return all
}

// What the chart copies from config is what config has.
func TestChartFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"config", "hack/chart"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "hack/chart/sync.sh")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "diff", "-ruN", filepath.Join(root, chart, "files"), filepath.Join(dir, chart, "files")).CombinedOutput()
	if err != nil {
		t.Errorf("hack/chart/sync.sh would change the chart: run `make chart`\n%s", out)
	}
}
