package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// invalid is a manifest that the API server must refuse, with what it must say.
type invalid struct {
	name string
	spec string
	says string
}

func repeat(format string, n int) string {
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(format, i))
	}
	return strings.Join(items, ", ")
}

func TestClientValidation(t *testing.T) {
	t.Parallel()
	const scope, audience = "a scope is made of printable ASCII", "an audience is made of printable ASCII"
	for _, test := range []invalid{
		{"space in a scope", `scopes: ["read write"]`, scope},
		{"quote in a scope", `scopes: ['a"b']`, scope},
		{"backslash in a scope", `scopes: ['a\b']`, scope},
		{"control character in a scope", `scopes: ["a\u0007"]`, scope},
		{"DEL in a scope", `scopes: ["a\u007f"]`, scope},
		{"non-ASCII scope", `scopes: ["läs"]`, scope},
		{"empty scope", `scopes: [""]`, "spec.scopes"},
		{"long scope", `scopes: [` + strings.Repeat("x", 129) + `]`, "128"},
		{"too many scopes", `scopes: [` + repeat("s%d", 101) + `]`, "100"},
		{"scope twice", `scopes: [a, b, a]`, "list each scope once"},
		{"too much metadata", `trustedMetadata: {` + repeat("k%d: 1", 21) + `}`, "20"},
		{"unknown state", `state: Paused`, "state must be Active or Inactive"},
		{"line end in a name", `displayName: "a\nb"`, "one line"},
		{"long name", `displayName: ` + strings.Repeat("x", 257), "256"},
		{"NUL in a description", `description: "a\0b"`, "control characters"},
		{"other issuer kind", `issuerRef: {kind: Issuer}`, "issuerRef.kind must be ClusterM2MIssuer"},
		{"issuer name", `issuerRef: {name: Default}`, "issuerRef.name must be"},
		{"Secret name", `secret: {name: My_Secret}`, "secret.name must be a DNS subdomain"},
		{"deletion policy", `secret: {deletionPolicy: Orphan}`, "deletionPolicy must be Delete or Retain"},
		{"Secret key", `secret: {template: {keys: {clientID: "a/b"}}}`, "a key of a Secret is made of"},
		{"keys that collide", `secret: {template: {keys: {clientID: same, tokenURL: same}}}`, "give each its own key"},
		{"key that collides with a default", `secret: {template: {keys: {clientID: client_secret}}}`, "give each its own key"},
		{"data over a standard key", `secret: {template: {data: {client_secret: x}}}`, "also the key of a standard value"},
		{"data over a renamed key", `secret: {template: {keys: {clientID: ID}, data: {ID: x}}}`, "also the key of a standard value"},
		{"data key", `secret: {template: {data: {"a/b": x}}}`, "a key of template.data must be"},
		{"unknown placeholder", `secret: {template: {data: {.env: "X={{ password }}"}}}`, "may stand between double braces"},
		{"open placeholder", `secret: {template: {data: {.env: "X={{ client_id"}}}`, "may stand between double braces"},
		{"our label", `secret: {template: {metadata: {labels: {m2m-operator.dev/client: other}}}}`, "choose another key"},
		{"managed-by label", `secret: {template: {metadata: {labels: {app.kubernetes.io/managed-by: me}}}}`, "choose another key"},
		{"our annotation", `secret: {template: {metadata: {annotations: {m2m-operator.dev/seal: x}}}}`, "choose another key"},
		{"label value", `secret: {template: {metadata: {labels: {team: "a b"}}}}`, "labels"},
		{"label key", `secret: {template: {metadata: {labels: {"a b": c}}}}`, "must be a label key"},
		{"short lifetime", `token: {lifetime: 30s}`, "between 1m and 168h"},
		{"long lifetime", `token: {lifetime: 169h}`, "between 1m and 168h"},
		{"odd lifetime", `token: {lifetime: 1.5h}`, "such as 30m or 1h30m"},
		{"no lifetime", `token: {lifetime: soon}`, "such as 30m or 1h30m"},
		{"audience", `token: {audiences: ["a b"]}`, audience},
		{"audience twice", `token: {audiences: [a, a]}`, "list each audience once"},
		{"no audience", `token: {audiences: []}`, "token.audiences"},
		{"next key that collides with a default", `secret: {template: {keys: {nextClientSecret: client_secret}}}`, "give each its own key"},
		{"data over the next secret", `secret: {template: {data: {next_client_secret: x}}}`, "also the key of a standard value"},
		{"import without a name", `secret: {importFrom: {}}`, "importFrom.name"},
		{"client id with a space", `clientID: "a b"`, "clientID must be letters"},
		{"short overlap", `rotation: {overlap: 1m}`, "a kubelet brings a new secret into a mounted volume"},
		{"odd overlap", `rotation: {overlap: 1d}`, "such as 24h"},
		{"odd interval", `rotation: {interval: 90d}`, "such as 2160h for 90 days"},
		{"interval under the default overlap", `rotation: {interval: 12h}`, "secrets would pile up"},
		{"interval under the overlap", `rotation: {interval: 48h, overlap: 49h}`, "secrets would pile up"},
		{"long trigger", `rotation: {trigger: ` + strings.Repeat("x", 257) + `}`, "256"},
		{"mode", `rotation: {mode: Manual}`, "rotation.mode must be Automatic or Staged"},
		{"staged action", `rotation: {staged: {version: 2-abcd, action: Drop}}`, "staged.action must be Promote or Cancel"},
		{"staged without a version", `rotation: {staged: {action: Promote}}`, "staged.version"},
		{"version", `rotation: {revoke: [latest]}`, "such as 3-x8Fa"},
		{"workload", `rotation: {restart: [{kind: Job, name: a}]}`, "restart.kind must be Deployment, StatefulSet or DaemonSet"},
		{"long wait for no use", `rotation: {retireWhenUnused: {for: 721h}}`, "at most 720h"},
		{"delivery", `secret: {delivery: Vault}`, "secret.delivery must be Secret or None"},
		{"name without a Secret", `secret: {delivery: None, name: a}`, "with secret.delivery None there is no secret"},
		{"rotation without a secret", `secret: {delivery: None}, rotation: {interval: 48h}`, "with secret.delivery None there is no secret"},
		{"account", `workloadIdentities: [{serviceAccountName: "other/billing"}]`, "must be the name of a ServiceAccount"},
		{"account of another namespace", `workloadIdentities: [{serviceAccountName: billing, namespace: other}]`, "unknown field"},
		{"account twice", `workloadIdentities: [{serviceAccountName: a}, {serviceAccountName: a}]`, "list each once"},
		{"symmetric key", `publicKeys: {keys: [{kty: oct}]}`, "kty must be EC, RSA or OKP"},
		{"private key", `publicKeys: {keys: [{kty: EC, crv: P-256, x: AA, y: AA, d: AA}]}`, "unknown field"},
		{"key for encryption", `publicKeys: {keys: [{kty: EC, use: enc}]}`, "use must be sig"},
		{"HMAC key", `publicKeys: {keys: [{kty: RSA, alg: HS256}]}`, "alg must be one of"},
		{"one kid twice", `publicKeys: {keys: [{kty: EC, kid: a}, {kty: RSA, kid: a}]}`, "give each its own"},
		{"no keys", `publicKeys: {keys: []}`, "publicKeys.keys"},
		{"cut-off", `token: {notBefore: yesterday}`, "token.notBefore"},
		{"unknown field", `scopess: [a]`, "unknown field"},
	} {
		t.Run(test.name, func(t *testing.T) { checkRefused(t, "M2MClient", "default", test) })
	}
}

func TestIssuerValidation(t *testing.T) {
	t.Parallel()
	const url, form = "url must begin with https://", "url must be scheme, lower case host"
	for _, test := range []invalid{
		{"http", `url: "http://auth.example.com", projectID: p`, url},
		{"http on what looks like loopback", `url: "http://127.0.0.1.example.com", projectID: p`, url},
		{"http on what begins like localhost", `url: "http://localhost.example.com", projectID: p`, url},
		{"other scheme", `url: "ftp://auth.example.com", projectID: p`, url},
		{"trailing slash", `url: "https://auth.example.com/", projectID: p`, form},
		{"query", `url: "https://auth.example.com?a=b", projectID: p`, form},
		{"fragment", `url: "https://auth.example.com#a", projectID: p`, form},
		{"user", `url: "https://me@auth.example.com", projectID: p`, form},
		{"upper case", `url: "https://Auth.example.com", projectID: p`, form},
		{"line end", `url: "https://auth.example.com\n", projectID: p`, form},
		{"path with the Stytch profile", `url: "https://auth.example.com/a", projectID: p`, "with the Stytch profile spec.url has no path"},
		{"no URL", `projectID: p`, "spec.url"},
		{"no project id", `url: "https://auth.example.com"`, "spec.projectID"},
		{"project id with a slash", `url: "https://auth.example.com", projectID: a/b`, "projectID must be letters"},
		{"algorithm", `url: "https://auth.example.com", projectID: p, signing: {algorithm: HS256}`, "algorithm must be one of"},
		{"no algorithm", `url: "https://auth.example.com", projectID: p, signing: {algorithm: none}`, "algorithm must be one of"},
		{"environment", `url: "https://auth.example.com", projectID: p, environment: Staging`, "environment must be Live or Test"},
		{"profile", `url: "https://auth.example.com", projectID: p, token: {profile: Opaque}`, "profile must be Stytch or RFC9068"},
		{"lifetimes out of order", `url: "https://auth.example.com", projectID: p, token: {lifetime: 2h, maxLifetime: 1h}`, "must be in order"},
		{"short key interval", `url: "https://auth.example.com", projectID: p, signing: {rotation: {interval: 3h}}`, "between 4h and 87600h"},
		{"odd key interval", `url: "https://auth.example.com", projectID: p, signing: {rotation: {interval: 90d}}`, "such as 2160h for 90 days"},
		{"other iss", `url: "https://auth.example.com", projectID: p, token: {issuer: "a b"}`, "token.issuer is made of printable ASCII"},
		{"grant to nobody", `url: "https://auth.example.com", projectID: p, grants: [{namespaces: {}, scopes: ["*"]}]`, "a grant needs namespaces.names"},
		{"grant to a pattern", `url: "https://auth.example.com", projectID: p, grants: [{namespaces: {names: ["team-*"]}}]`, "namespaces.names must be names of namespaces, or * for all"},
		{"granted scope", `url: "https://auth.example.com", projectID: p, grants: [{namespaces: {names: ["*"]}, scopes: ["a b"]}]`, "a granted scope is made of printable ASCII"},
		{"granted audience", `url: "https://auth.example.com", projectID: p, grants: [{namespaces: {names: ["*"]}, audiences: ["a b"]}]`, "an audience is made of printable ASCII"},
		{"long template", `url: "https://auth.example.com", projectID: p, token: {customClaims: "` + strings.Repeat("x", 4097) + `"}`, "4096"},
		{"default lifetime under the least", `url: "https://auth.example.com", projectID: p, token: {minLifetime: 2h}`, "must be in order"},
	} {
		t.Run(test.name, func(t *testing.T) { checkRefused(t, "ClusterM2MIssuer", "", test) })
	}
}

// checkRefused: the manifest is refused, and the API server says what to write.
func checkRefused(t *testing.T, kind, namespace string, test invalid) {
	t.Helper()
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte("{"+test.spec+"}"), &spec); err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "m2m-operator.dev/v1alpha1",
		"kind":       kind,
		"spec":       spec,
	}}
	o.SetNamespace(namespace)
	o.SetName("refused")
	err := shared.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict"))
	if err == nil || !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		t.Fatalf("got %v; want it refused", err)
	}
	if !strings.Contains(err.Error(), test.says) {
		t.Errorf("it says %q; want %q", err, test.says)
	}
}

func TestImmutableFields(t *testing.T) {
	t.Parallel()
	name := strings.ToLower(t.Name())
	client := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: %s, namespace: default}, spec: %%s}", name)
	chosen := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: %s-chosen, namespace: default}, spec: {clientID: %%s}}", name)
	issuer := fmt.Sprintf("{apiVersion: m2m-operator.dev/v1alpha1, kind: ClusterM2MIssuer, metadata: {name: %s}, spec: {projectID: %%s, url: %%s%%s}}", name)
	base := fmt.Sprintf(issuer, name, "https://immutable.example.com", "")
	for _, test := range []struct{ name, from, to, says string }{
		{"issuer named", fmt.Sprintf(client, "{}"), fmt.Sprintf(client, "{issuerRef: {name: other}}"), "spec.issuerRef can't be changed"},
		{"client id chosen later", fmt.Sprintf(client, "{}"), fmt.Sprintf(client, "{clientID: billing-eu}"), "spec.clientID can't be set, changed or removed later"},
		{"client id removed with the rest", fmt.Sprintf(chosen, "billing-eu"), strings.Replace(chosen, "{clientID: %s}", "{}", 1), "spec.clientID can't be set, changed or removed later"},
		{"spec emptied to null", fmt.Sprintf(chosen, "billing-eu"), strings.Replace(chosen, "{clientID: %s}", "null", 1), "spec.clientID can't be set, changed or removed later"},
		{"last field removed", fmt.Sprintf(client, "{displayName: Billing}"), fmt.Sprintf(client, "{}"), ""},
		{"defaults written out", fmt.Sprintf(client, "{}"), fmt.Sprintf(client, "{issuerRef: {name: default}, secret: {name: "+name+"}}"), ""},
		{"delivery changed", fmt.Sprintf(client, "{}"), fmt.Sprintf(client, "{secret: {delivery: None}}"), "spec.secret.delivery can't be changed"},
		{"delivery written out", fmt.Sprintf(client, "{}"), fmt.Sprintf(client, "{secret: {delivery: Secret}}"), ""},
		{"client id changed", fmt.Sprintf(chosen, "billing-eu"), fmt.Sprintf(chosen, "billing-us"), "spec.clientID can't be set, changed or removed later"},
		{"URL", base, fmt.Sprintf(issuer, name, "https://other.example.com", ""), "url can't be changed"},
		{"project id", base, fmt.Sprintf(issuer, "other", "https://immutable.example.com", ""), "projectID can't be changed"},
		{"environment", base, fmt.Sprintf(issuer, name, "https://immutable.example.com", ", environment: Test"), "spec.environment can't be changed"},
		{"profile", base, fmt.Sprintf(issuer, name, "https://immutable.example.com", ", token: {profile: RFC9068}"), "spec.token.profile can't be changed"},
		{"other iss", base, fmt.Sprintf(issuer, name, "https://immutable.example.com", ", token: {issuer: other}"), "spec.token.issuer can't be changed"},
		{"algorithm", base, fmt.Sprintf(issuer, name, "https://immutable.example.com", ", signing: {algorithm: RS256}"), "spec.signing.algorithm can't be changed"},
		{"issuer's defaults written out", base, fmt.Sprintf(issuer, name, "https://immutable.example.com", ", environment: Live, signing: {algorithm: ES256}, token: {profile: Stytch, issuer: 'https://immutable.example.com', lifetime: 10m}"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			shared.kubectlInput(t, test.from, "apply", "--server-side", "--force-conflicts", "-f", "-")
			cmd := shared.Cluster.Kubectl(t.Context(), "apply", "--server-side", "--force-conflicts", "-f", "-")
			cmd.Stdin = strings.NewReader(test.to)
			out, err := cmd.CombinedOutput()
			if (err == nil) != (test.says == "") || !strings.Contains(string(out), test.says) {
				t.Errorf("got %v: %s; want %q", err, out, test.says)
			}
		})
	}
}

// What is shipped and shown is accepted as it is.
func TestShippedManifests(t *testing.T) {
	t.Parallel()
	shared.account(t, "default", "shipping") // the pod's own
	for _, args := range [][]string{
		{"-k", "../../config/samples"},
		{"-f", "../../config/samples/pod.yaml"},
		{"-f", "../../config/samples/pod-workload.yaml"},
		{"-k", "../../config/token-review"},
		{"-k", "../../config/default"},
	} {
		shared.kubectl(t, append([]string{"apply", "--server-side", "--dry-run=server"}, args...)...)
	}
}

// The manifests in the documents are the samples.
func TestDocumentedManifests(t *testing.T) {
	t.Parallel()
	for document, samples := range map[string][]string{
		"../../README.md":                {"m2mclient.yaml", "pod.yaml"},
		"../../docs/m2mclient.md":        {"m2mclient-full.yaml", "m2mclient-rotation.yaml"},
		"../../docs/clusterm2missuer.md": {"clusterm2missuer.yaml"},
		"../../docs/token-endpoint.md":   {"m2mclient-workload.yaml", "pod-workload.yaml"},
	} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range samples {
			manifest, err := os.ReadFile("../../config/samples/" + sample)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(string(manifest), "apiVersion:") // what comes before is a comment
			if !strings.Contains(string(text), "```yaml\napiVersion:"+body+"```") {
				t.Errorf("%s doesn't show %s as it is", document, sample)
			}
		}
	}
}
