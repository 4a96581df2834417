package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// written is what `kubectl get m2m,secret -o yaml` writes, and more.
const written = `apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: m2m-operator.dev/v1alpha1
  kind: M2MClient
  metadata:
    annotations: {note: mine}
    creationTimestamp: "2026-11-23T08:00:00Z"
    generation: 3
    managedFields: [{manager: argocd-controller, operation: Apply}]
    labels: {team: billing}
    name: billing
    namespace: shop
    ownerReferences: [{kind: Gone, uid: dead}]
    resourceVersion: "99"
    uid: old
  spec: {scopes: [a], trustedMetadata: {limit: 9007199254740993}}
  status: {clientID: m2m-client-test-1}
- apiVersion: v1
  kind: Secret
  type: Opaque
  data: {client_id: eA==}
  metadata:
    annotations: {m2m-operator.dev/seal: s, m2m-operator.dev/version: 3-x8Fa, m2m-operator.dev/client-uid: old}
    labels: {app.kubernetes.io/managed-by: m2m-operator, m2m-operator.dev/client: billing}
    name: billing-m2m
    namespace: shop
    ownerReferences: [{kind: M2MClient, uid: old}]
    resourceVersion: "98"
    uid: old-secret
- apiVersion: v1
  kind: Secret
  metadata:
    annotations: {m2m-operator.dev/seal: s, m2m-operator.dev/client-uid: older}
    labels: {m2m-operator.dev/client: billing}
    name: of-an-earlier-client
    namespace: shop
- apiVersion: v1
  kind: Secret
  metadata:
    annotations: {m2m-operator.dev/seal: s, m2m-operator.dev/client-uid: gone}
    labels: {m2m-operator.dev/client: gone}
    name: of-a-client-that-is-gone
    namespace: shop
- apiVersion: m2m-operator.dev/v1alpha1
  kind: ClusterM2MIssuer
  metadata: {name: default, uid: old-issuer, resourceVersion: "7"}
  spec: {projectID: project-1}
  status: {observedGeneration: 1}
---
---
apiVersion: v1
kind: Secret
metadata: {name: m2m-operator-pepper, namespace: m2m-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: x}
---
apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata: {name: elsewhere}
`

func TestBackup(t *testing.T) {
	objects, err := parseBackup([]byte(written))
	if err != nil {
		t.Fatal(err)
	}
	b := newBackup(objects, "default")
	if len(b.clients) != 2 || len(b.secrets) != 1 || len(b.issuers) != 1 || len(b.skipped) != 4 || b.clients[1].GetNamespace() != "default" {
		t.Fatalf("%d clients, %d Secrets, skipped %q", len(b.clients), len(b.secrets), b.skipped)
	}
	if b.versions[client.ObjectKey{Namespace: "shop", Name: "billing"}] != "3-x8Fa" {
		t.Error(b.versions)
	}
	for i, want := range []string{`apiVersion: m2m-operator.dev/v1alpha1
kind: M2MClient
metadata:
  annotations:
    note: mine
  labels:
    team: billing
  name: billing
  namespace: shop
spec:
  scopes:
  - a
  trustedMetadata:
    limit: 9007199254740993
`, `apiVersion: v1
data:
  client_id: eA==
kind: Secret
metadata:
  annotations:
    m2m-operator.dev/client-uid: old
    m2m-operator.dev/seal: s
    m2m-operator.dev/version: 3-x8Fa
  labels:
    app.kubernetes.io/managed-by: m2m-operator
    m2m-operator.dev/adopt: billing
    m2m-operator.dev/client: billing
  name: billing-m2m
  namespace: shop
type: Opaque
`, `apiVersion: m2m-operator.dev/v1alpha1
kind: ClusterM2MIssuer
metadata:
  name: default
spec:
  projectID: project-1
`} {
		got, err := yaml.Marshal(slices.Concat(b.clients[:1], b.secrets, b.issuers)[i].Object)
		if err != nil || string(got) != want {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

// A backup may come from anybody: it makes an error, or objects that can be created.
func FuzzBackup(f *testing.F) {
	f.Add([]byte(written))
	f.Add([]byte(`{"items": [{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": 1, "labels": "x"}}, 1]}`))
	f.Add([]byte("a: b\n---\n- c"))
	f.Fuzz(func(t *testing.T, content []byte) {
		objects, err := parseBackup(content)
		if err != nil {
			return
		}
		b := newBackup(objects, "default")
		for _, o := range append(b.secrets, b.clients...) {
			if o.GetName() == "" || o.GetNamespace() == "" || o.GetUID() != "" || len(o.GetOwnerReferences())+len(o.GetManagedFields()) > 0 {
				t.Errorf("%v", o.Object)
			}
		}
	})
}

func TestAdoptable(t *testing.T) {
	sealed := func(uid string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "billing", Annotations: map[string]string{
			v1alpha1.AnnotationClientUID: uid, v1alpha1.AnnotationSeal: "s",
		}}}
	}
	named := sealed("old")
	named.Name = "another"
	fresh := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Name: "billing", UID: "new"}}
	issued := fresh.DeepCopy()
	issued.Status = v1alpha1.M2MClientStatus{Seal: "s", ClientID: "m2m-client-test-2"}
	all := []v1alpha1.M2MClient{*fresh, {ObjectMeta: metav1.ObjectMeta{Name: "victim", UID: "living"}}}
	for name, test := range map[string]struct {
		client *v1alpha1.M2MClient
		secret *corev1.Secret
		says   string
	}{
		"as it should be": {fresh, sealed("old"), ""},
		"its own":         {fresh, sealed("new"), "nothing to restore"},
		"another's":       {fresh, sealed("living"), `belongs to the M2MClient "victim"`},
		"no seal":         {fresh, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "billing"}}, "importFrom"},
		"another name":    {fresh, named, `set spec.secret.name to "another"`},
		"has another id":  {issued, sealed("old"), "m2m-client-test-2"},
	} {
		err := adoptable(test.client, test.secret, all)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdoption(t *testing.T) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "billing", ResourceVersion: "7", OwnerReferences: []metav1.OwnerReference{
		{Kind: "M2MClient", APIVersion: "m2m-operator.dev/v1alpha1", Name: "billing", UID: "old"}, {Kind: "ConfigMap", APIVersion: "v1", Name: "x", UID: "y"},
	}}}
	patch, err := adoption(&v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Name: "billing"}}, s)
	const want = `{"metadata": {"labels": {"m2m-operator.dev/adopt": "billing"}, "resourceVersion": "7",
		"ownerReferences": [{"kind": "ConfigMap", "apiVersion": "v1", "name": "x", "uid": "y"}]}}`
	if err != nil || !reflect.DeepEqual(objectOf(t, string(patch)), objectOf(t, want)) {
		t.Errorf("%s, %v", patch, err)
	}
}

func TestReleasing(t *testing.T) {
	const status = `{"manager": "m2m-operator", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}}`
	mine := `{"manager": "kubectl-m2m", "operation": "Update", "fieldsV1": {"f:spec": {}}}`
	alone := objectOf(t, `{"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [`+mine+`]}}`)
	if patch, err := releasing(alone); patch != nil || err != nil {
		t.Errorf("%s, %v", patch, err)
	}
	patch, err := releasing(objectOf(t, `{"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [`+mine+`,`+status+`]}}`))
	want := `{"metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [` + status + `]}}`
	if err != nil || !reflect.DeepEqual(objectOf(t, string(patch)), objectOf(t, want)) {
		t.Errorf("%s, %v", patch, err)
	}
}

func TestRestored(t *testing.T) {
	for text, want := range map[string]string{
		`{"status": {"clientID": "x"}}`: "is ready as client_id x: there was no Secret of it to restore",
		`{"metadata": {"annotations": {"m2m-operator.dev/credential": "y"}}, "status": {"clientID": "x"}}`: "restored: client_id x, with the secrets that the management API made",
	} {
		if got := restored(clientOf(t, text), "", ""); got != want {
			t.Error(got)
		}
	}
	for was, want := range map[string]string{
		"x": "is ready as client_id x: there was no Secret of it to restore",
		"y": "is ready as client_id x, and was y: without a Secret only spec.clientID brings an id back",
	} {
		if got := restored(clientOf(t, `{"status": {"clientID": "x"}}`), "", was); got != want {
			t.Error(got)
		}
	}
	if got := restored(clientOf(t, `{"status": {"clientID": "x"}}`), "1-a", "x"); got != "restored: client_id x, version 1-a" {
		t.Error(got)
	}
}
