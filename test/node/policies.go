//go:build linux

package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// policies keep from pods, and in them, what NetworkPolicies don't allow: the bridge that
// joins the pods looks at none. Rules name ports alone here: one that names peers allows
// nobody. A pod has its rules as soon as its address is known.
type policies struct {
	pods    corelisters.PodLister
	all     networkinglisters.NetworkPolicyLister
	changed chan struct{}
	failed  func(error)
	cancel  context.CancelFunc
}

func startPolicies(ctx context.Context, clients kubernetes.Interface, failed func(error)) (*policies, error) {
	// The table mangle is looked at before kube-proxy's, and after the addresses of
	// Services have become those of pods.
	for _, rule := range []string{"-N " + policyChain, "-A FORWARD -j " + policyChain, "-A INPUT -j " + policyChain} {
		if err := iptables(ctx, "", "iptables", append([]string{"-t", "mangle"}, strings.Fields(rule)...)...); err != nil {
			return nil, err
		}
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	factory := informers.NewSharedInformerFactory(clients, 0)
	p := &policies{
		pods: factory.Core().V1().Pods().Lister(), all: factory.Networking().V1().NetworkPolicies().Lister(),
		changed: make(chan struct{}, 1), failed: failed, cancel: cancel,
	}
	for _, informer := range []cache.SharedIndexInformer{factory.Core().V1().Pods().Informer(), factory.Networking().V1().NetworkPolicies().Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { p.notice() }, UpdateFunc: func(any, any) { p.notice() }, DeleteFunc: func(any) { p.notice() },
		}); err != nil {
			cancel()
			return nil, err
		}
	}
	if err := follow(ctx, watching, factory); err != nil {
		cancel()
		return nil, err
	}
	go p.enforce(watching)
	return p, nil
}

func (p *policies) stop() { p.cancel() }

func (p *policies) notice() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *policies) enforce(ctx context.Context) {
	var enforced string
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
		pods, err := p.pods.List(labels.Everything())
		all, listErr := p.all.List(labels.Everything())
		if err = errors.Join(err, listErr); err == nil {
			if rules := ruleset(all, pods); rules != enforced {
				if err = iptables(ctx, rules, "iptables-restore", "--noflush", "--wait"); err == nil {
					enforced = rules
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			p.failed(err)
		}
	}
}

func iptables(ctx context.Context, input, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

const policyChain = "NETWORK-POLICIES"

// direction is one of the two in which a policy isolates pods.
type direction struct {
	kind  networkingv1.PolicyType
	end   string // of a connection that is the pod's, as iptables says it
	ports func(*networkingv1.NetworkPolicySpec) [][]networkingv1.NetworkPolicyPort
}

var directions = []direction{
	{networkingv1.PolicyTypeEgress, "-s", func(s *networkingv1.NetworkPolicySpec) (rules [][]networkingv1.NetworkPolicyPort) {
		for _, rule := range s.Egress {
			if len(rule.To) == 0 {
				rules = append(rules, rule.Ports)
			}
		}
		return rules
	}},
	{networkingv1.PolicyTypeIngress, "-d", func(s *networkingv1.NetworkPolicySpec) (rules [][]networkingv1.NetworkPolicyPort) {
		for _, rule := range s.Ingress {
			if len(rule.From) == 0 {
				rules = append(rules, rule.Ports)
			}
		}
		return rules
	}},
}

// ruleset is what iptables-restore wants: for each direction in which a pod is isolated a
// chain that returns for what is allowed. What belongs to an allowed connection is allowed.
func ruleset(all []*networkingv1.NetworkPolicy, pods []*corev1.Pod) string {
	var chains, rules []string
	byAddress := func(a, b *corev1.Pod) int { return strings.Compare(a.Status.PodIP, b.Status.PodIP) }
	for _, pod := range slices.SortedFunc(slices.Values(pods), byAddress) {
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if pod.Status.PodIP == "" || pod.Spec.HostNetwork || over {
			continue
		}
		for _, d := range directions {
			allowed, isolated := d.allowed(all, pod)
			if !isolated {
				continue
			}
			chain := fmt.Sprintf("POD%s-%s", d.end, pod.Status.PodIP)
			chains = append(chains, ":"+chain+" - [0:0]")
			rules = append(rules, fmt.Sprintf("-A %s %s %s -j %s", policyChain, d.end, pod.Status.PodIP, chain))
			for _, ports := range allowed {
				rules = append(rules, "-A "+chain+ports+" -j RETURN")
			}
			rules = append(rules, "-A "+chain+" -j DROP")
		}
	}
	return strings.Join(slices.Concat(
		[]string{"*mangle", ":" + policyChain + " - [0:0]"}, chains,
		[]string{"-A " + policyChain + " -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"}, rules,
		[]string{"COMMIT", ""},
	), "\n")
}

// allowed says what the policies that select a pod allow, and whether there are any.
func (d direction) allowed(all []*networkingv1.NetworkPolicy, pod *corev1.Pod) (allowed []string, isolated bool) {
	for _, policy := range all {
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil || policy.Namespace != pod.Namespace || !selector.Matches(labels.Set(pod.Labels)) || !slices.Contains(policy.Spec.PolicyTypes, d.kind) {
			continue
		}
		isolated = true
		for _, ports := range d.ports(&policy.Spec) {
			allowed = append(allowed, matches(ports)...)
		}
	}
	slices.Sort(allowed)
	return slices.Compact(allowed), isolated
}

// matches are the ports of a rule in iptables' words; no ports are all of them.
func matches(ports []networkingv1.NetworkPolicyPort) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var found []string
	for _, p := range ports {
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		match := " -p " + strings.ToLower(string(protocol))
		if p.Port != nil {
			match += " --dport " + p.Port.String()
		}
		if p.EndPort != nil {
			match += fmt.Sprintf(":%d", *p.EndPort)
		}
		found = append(found, match)
	}
	return found
}
