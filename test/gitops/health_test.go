package gitops

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/eventually"
)

// verdict is what the tools make of an object: kstatus (Flux, kubectl's own and others),
// and Argo CD.
type verdict struct {
	kstatus status.Status
	argo    string
}

var (
	current    = verdict{status.CurrentStatus, "Healthy"}
	inProgress = verdict{status.InProgressStatus, "Progressing"}
	failed     = verdict{status.FailedStatus, "Degraded"}
)

// verdicts are what they should make of each reason.
var verdicts = map[string]verdict{
	v1alpha1.ReasonIssued:          current,
	v1alpha1.ReasonInactive:        current,
	v1alpha1.ReasonStaged:          current,
	v1alpha1.ReasonRotating:        inProgress,
	v1alpha1.ReasonIssuerNotFound:  failed,
	v1alpha1.ReasonSecretConflict:  failed,
	v1alpha1.ReasonNoCredential:    failed,
	v1alpha1.ReasonInvalidTemplate: failed,
	v1alpha1.ReasonSigning:         current,
	v1alpha1.ReasonConflict:        failed,
	v1alpha1.ReasonInvalidClaims:   failed,
}

// Every state that clients and issuers go through here is read as it is meant, at each of
// its writes.
func TestHealth(t *testing.T) {
	t.Parallel()
	seen := shared.watchHealth(t)
	namespace := shared.namespace(t)
	taken := &corev1.Secret{}
	taken.Namespace, taken.Name = namespace, "taken"
	if err := shared.Create(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]string{
		"issued":   "{}",
		"inactive": "{state: Inactive}",
		"staged":   "{rotation: {mode: Staged}}",
		"lost":     "{issuerRef: {name: nowhere}}",
		"taken":    "{}",
		"none":     "{secret: {delivery: None}}",
		"large":    "{scopes: [" + strings.Repeat("x", 128) + ", " + strings.Repeat("y", 128) + "], secret: {template: {data: {a: '" + strings.Repeat("{{ scopes }}", 300) + "'}}}}",
	} {
		manifest := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: %s, namespace: %s}, spec: %s}", name, namespace, spec)
		shared.kubectl(t, manifest, "apply", "--server-side", "-f", "-")
	}
	for _, name := range []string{"issued", "staged"} {
		shared.waitReady(t, namespace, name)
		shared.kubectl(t, "", "annotate", "m2m", "-n", namespace, name, v1alpha1.AnnotationRotate+"=now")
	}
	for name, spec := range map[string]string{
		"second": "{url: URL, projectID: second}",
		"claims": "{url: 'https://claims.example.com', projectID: claims, token: {customClaims: '{]'}}",
	} {
		manifest := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: ClusterM2MIssuer, metadata: {name: %s}, spec: %s}",
			name, strings.ReplaceAll(spec, "URL", shared.Servers[0].URL))
		shared.kubectl(t, manifest, "apply", "--server-side", "-f", "-")
	}
	eventually.Right(t, func() string {
		for reason := range verdicts {
			if !slices.Contains(seen(), reason) {
				return fmt.Sprintf("no object came to say %s; seen: %v", reason, seen())
			}
		}
		return ""
	})
}

// watchHealth checks each state of clients and issuers from now on, and returns the
// reasons that were seen.
func (o *operator) watchHealth(t *testing.T) func() []string {
	t.Helper()
	scripts := healthScripts(t)
	var mu sync.Mutex
	seen := map[string]bool{}
	for _, kind := range []string{"M2MClient", "ClusterM2MIssuer"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "m2m-operator.dev", Version: "v1alpha1", Kind: kind + "List"})
		w, err := o.Watch(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		var watched sync.WaitGroup
		t.Cleanup(func() { w.Stop(); watched.Wait() })
		watched.Go(func() {
			for event := range w.ResultChan() {
				object, ok := event.Object.(*unstructured.Unstructured)
				if !ok || event.Type == watch.Deleted {
					continue
				}
				reason := checkHealth(t, scripts[kind], object)
				mu.Lock()
				seen[reason] = true
				mu.Unlock()
			}
		})
	}
	return func() (reasons []string) {
		mu.Lock()
		defer mu.Unlock()
		for reason := range seen {
			reasons = append(reasons, reason)
		}
		return reasons
	}
}

// checkHealth compares what the tools make of an object with what its reason means, and
// returns the reason.
func checkHealth(t *testing.T, script string, object *unstructured.Unstructured) string {
	generation := object.GetGeneration()
	observed, _, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	reason := readyReason(object)
	want, known := verdicts[reason]
	switch {
	case observed != generation:
		want = inProgress
	case !known:
		return reason
	}
	result, err := status.Compute(object)
	if err != nil {
		t.Error(err)
		return reason
	}
	got := verdict{result.Status, argoHealth(t, script, object)}
	if got != want {
		t.Errorf("%s %s, at generation %d of %d, says %s: read as %v, want %v", object.GetKind(), object.GetName(), observed, generation, reason, got, want)
	}
	return reason
}

func readyReason(object *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if condition := c.(map[string]any); condition["type"] == v1alpha1.ConditionReady {
			return condition["reason"].(string)
		}
	}
	return ""
}

// healthScripts are those of the example for Argo CD, by kind.
func healthScripts(t *testing.T) map[string]string {
	t.Helper()
	config := &corev1.ConfigMap{}
	readExample(t, "argocd/argocd-cm.yaml", config)
	scripts := map[string]string{}
	for key, script := range config.Data {
		kind, ok := strings.CutPrefix(key, "resource.customizations.health.m2m-operator.dev_")
		if !ok {
			t.Errorf("Argo CD doesn't read the key %s", key)
		}
		scripts[kind] = script
	}
	return scripts
}

// argoHealth runs a health check as Argo CD does: with obj, and the libraries that it
// opens by default.
func argoHealth(t *testing.T, script string, object *unstructured.Unstructured) string {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{"": lua.OpenBase, "table": lua.OpenTable, "string": lua.OpenString, "math": lua.OpenMath} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(script); err != nil {
		t.Errorf("the health check of %s: %v", object.GetKind(), err)
		return ""
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Errorf("the health check of %s returns a %s", object.GetKind(), state.Get(-1).Type())
		return ""
	}
	if health.RawGetString("message").Type() != lua.LTString {
		t.Errorf("the health check of %s gives no message", object.GetKind())
	}
	return health.RawGetString("status").String()
}

// luaValue is a value of JSON in Lua.
func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, element := range value {
			table.RawSetString(key, luaValue(state, element))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, element := range value {
			table.Append(luaValue(state, element))
		}
		return table
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	}
	return lua.LNil
}

// What nobody has looked at yet, and what is paused, is not healthy by what it said before.
func TestArgoHealthWithoutStatus(t *testing.T) {
	t.Parallel()
	script := healthScripts(t)["M2MClient"]
	for name, test := range map[string]struct{ object, want string }{
		"just made": {`{"metadata": {"generation": 1}}`, "Progressing"},
		"paused":    {`{"metadata": {"generation": 2, "annotations": {"m2m-operator.dev/pause": "true"}}, "status": {"observedGeneration": 1}}`, "Suspended"},
		"no word":   {`{"metadata": {"generation": 2}, "status": {"observedGeneration": 2}}`, "Progressing"},
	} {
		object := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(test.object), &object.Object); err != nil {
			t.Fatal(err)
		}
		if got := argoHealth(t, script, object); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
