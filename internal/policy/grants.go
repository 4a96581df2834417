package policy

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// Namespace is what of a namespace grants depend on.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// Allowance is what an issuer grants to the clients of one namespace. The zero value
// is nothing.
type Allowance struct {
	ChosenClientIDs   bool
	ReservedClientIDs bool // those of the operator's own form, too

	scopes, audiences, metadataKeys patterns
}

// Allow computes what an issuer grants to a namespace: all that any grant to it has. A
// selector that isn't valid selects nothing; [CheckGrants] tells of it.
func Allow(issuer *v1alpha1.ClusterM2MIssuerSpec, namespace Namespace) Allowance {
	var a Allowance
	for i := range issuer.Grants {
		if g := &issuer.Grants[i]; selects(&g.Namespaces, namespace) {
			a.add(g)
		}
	}
	return a
}

func (a *Allowance) add(g *v1alpha1.Grant) {
	a.ChosenClientIDs = a.ChosenClientIDs || g.ChosenClientIDs
	a.ReservedClientIDs = a.ReservedClientIDs || g.ChosenClientIDs && g.ReservedClientIDs
	a.scopes = append(a.scopes, g.Scopes...)
	a.metadataKeys = append(a.metadataKeys, g.MetadataKeys...)
	for _, audience := range g.Audiences {
		a.audiences = append(a.audiences, string(audience))
	}
}

func selects(s *v1alpha1.NamespaceSelection, namespace Namespace) bool {
	if slices.Contains(s.Names, everything) || slices.Contains(s.Names, namespace.Name) {
		return true
	}
	if s.Selector == nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(s.Selector)
	return err == nil && selector.Matches(labels.Set(namespace.Labels))
}

// CheckGrants tells what is wrong with the selectors of an issuer's grants, which a
// schema can't.
func CheckGrants(issuer *v1alpha1.ClusterM2MIssuerSpec) error {
	for i := range issuer.Grants {
		if s := issuer.Grants[i].Namespaces.Selector; s != nil {
			if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
				return fmt.Errorf("spec.grants[%d].namespaces.selector selects nothing, because it is not a label selector: %w", i, err)
			}
		}
	}
	return nil
}

// Unrestricted tells whether an issuer grants everything to every namespace.
func Unrestricted(issuer *v1alpha1.ClusterM2MIssuerSpec) bool {
	var a Allowance
	for i := range issuer.Grants {
		g := &issuer.Grants[i]
		s := g.Namespaces.Selector
		if slices.Contains(g.Namespaces.Names, everything) || s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
			a.add(g)
		}
	}
	return a.ChosenClientIDs && slices.Contains(a.scopes, everything) &&
		slices.Contains(a.audiences, everything) && slices.Contains(a.metadataKeys, everything)
}

// everything is the pattern that all match.
const everything = "*"

// patterns are words, or beginnings of words and a `*`.
type patterns []string

func (p patterns) match(word string) bool {
	return slices.ContainsFunc(p, func(pattern string) bool {
		beginning, open := strings.CutSuffix(pattern, everything)
		return pattern == word || open && strings.HasPrefix(word, beginning)
	})
}

// divide tells the words that match from the others.
func (p patterns) divide(words []string) (matching, others []string) {
	if len(p) > 0 && !slices.ContainsFunc(words, func(w string) bool { return !p.match(w) }) {
		return words, nil
	}
	for _, w := range words {
		if p.match(w) {
			matching = append(matching, w)
		} else {
			others = append(others, w)
		}
	}
	return matching, others
}

// refusals are what a client asks for and isn't granted.
type refusals struct{ scopes, audiences, metadataKeys []string }

func (r refusals) violation() *Violation {
	var parts []string
	for _, part := range []struct {
		name  string
		words []string
	}{{"scopes", r.scopes}, {"audiences", r.audiences}, {"trustedMetadata keys", r.metadataKeys}} {
		if len(part.words) > 0 {
			parts = append(parts, part.name+" "+enumerate(part.words))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return &Violation{v1alpha1.ReasonNotGranted, fmt.Sprintf(
		"the issuer doesn't grant to this namespace the %s: tokens come without them; leave them out, or ask who runs the issuer for a grant (spec.grants)",
		strings.Join(parts, "; the "))}
}

// enumerate quotes the first words, and counts the rest.
func enumerate(words []string) string {
	const most = 10
	var quoted []string
	for _, w := range words[:min(len(words), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", w))
	}
	list := strings.Join(quoted, ", ")
	if more := len(words) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}
