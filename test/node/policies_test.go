//go:build linux

package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const somePolicies = `
- metadata: {name: ports, namespace: a}
  spec:
    podSelector: {matchLabels: {app: web}}
    policyTypes: [Ingress, Egress]
    ingress:
      - ports: [{port: 8443}, {port: 53, protocol: UDP}]
      - ports: [{port: 1}]
        from: [{podSelector: {}}]
    egress:
      - {}
- metadata: {name: more, namespace: a}
  spec:
    podSelector: {}
    policyTypes: [Ingress]
    ingress:
      - ports: [{port: 8000, endPort: 8010, protocol: TCP}, {port: 8443, protocol: TCP}]
- metadata: {name: elsewhere, namespace: b}
  spec:
    podSelector: {}
    policyTypes: [Egress]
`

const someRules = `*mangle
:NETWORK-POLICIES - [0:0]
:POD-s-10.88.0.2 - [0:0]
:POD-d-10.88.0.2 - [0:0]
:POD-d-10.88.0.3 - [0:0]
-A NETWORK-POLICIES -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A NETWORK-POLICIES -s 10.88.0.2 -j POD-s-10.88.0.2
-A POD-s-10.88.0.2 -j RETURN
-A POD-s-10.88.0.2 -j DROP
-A NETWORK-POLICIES -d 10.88.0.2 -j POD-d-10.88.0.2
-A POD-d-10.88.0.2 -p tcp --dport 8000:8010 -j RETURN
-A POD-d-10.88.0.2 -p tcp --dport 8443 -j RETURN
-A POD-d-10.88.0.2 -p udp --dport 53 -j RETURN
-A POD-d-10.88.0.2 -j DROP
-A NETWORK-POLICIES -d 10.88.0.3 -j POD-d-10.88.0.3
-A POD-d-10.88.0.3 -p tcp --dport 8000:8010 -j RETURN
-A POD-d-10.88.0.3 -p tcp --dport 8443 -j RETURN
-A POD-d-10.88.0.3 -j DROP
COMMIT
`

func TestRuleset(t *testing.T) {
	var all []*networkingv1.NetworkPolicy
	if err := yaml.UnmarshalStrict([]byte(somePolicies), &all); err != nil {
		t.Fatal(err)
	}
	pod := func(namespace, app, ip string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Labels: map[string]string{"app": app}},
			Status:     corev1.PodStatus{PodIP: ip, Phase: phase},
		}
	}
	pods := []*corev1.Pod{
		pod("a", "other", "10.88.0.3", corev1.PodRunning), pod("a", "web", "10.88.0.2", corev1.PodRunning),
		pod("a", "web", "10.88.0.2", corev1.PodFailed), pod("a", "web", "", corev1.PodPending), pod("c", "web", "10.88.0.9", corev1.PodRunning),
	}
	if got := ruleset(all, pods); got != someRules {
		t.Errorf("%s", got)
	}
}
