package v1alpha1

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestIsMarked(t *testing.T) {
	owner := func(version, kind string) metav1.ObjectMeta {
		return metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: version, Kind: kind}}}
	}
	label := func(key, value string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Labels: map[string]string{key: value}}
	}
	annotation := func(key string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Annotations: map[string]string{key: ""}}
	}
	for name, test := range map[string]struct {
		object metav1.ObjectMeta
		want   bool
	}{
		"nothing":             {metav1.ObjectMeta{}, false},
		"the operator's":      {label(LabelManagedBy, ManagedBy), false},
		"rotated":             {annotation(AnnotationRotate), false},
		"a kept key":          {annotation(AnnotationKeepUntil), false},
		"another's object":    {owner("apps/v1", "Deployment"), false},
		"another group's":     {owner("example.com/v1", "M2MClient"), false},
		"of a client":         {label(LabelClient, "billing"), true},
		"without a name":      {label(LabelClient, ""), true},
		"to be adopted":       {label(LabelAdopt, "billing"), true},
		"with a client's UID": {annotation(AnnotationClientUID), true},
		"sealed":              {annotation(AnnotationSeal), true},
		"owned":               {owner(SchemeGroupVersion.String(), "M2MClient"), true},
		"owned, to come":      {owner(SchemeGroupVersion.Group+"/v1", "M2MClient"), true},
	} {
		if got := IsMarked(&test.object); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
