package controllers

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestCoverage(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	lease := func(renewed, reported, stopped time.Time) coordinationv1.Lease {
		l := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
		for key, at := range map[string]time.Time{v1alpha1.AnnotationReportedUntil: reported, v1alpha1.AnnotationStoppedAt: stopped} {
			if !at.IsZero() {
				l.Annotations[key] = at.Format(time.RFC3339)
			}
		}
		if !renewed.IsZero() {
			stamp := metav1.NewMicroTime(renewed)
			l.Spec.RenewTime = &stamp
		}
		return l
	}
	never := time.Time{}
	for _, test := range []struct {
		name         string
		leases       []coordinationv1.Lease
		covered, gap time.Time
	}{
		{name: "no server"},
		{"one server", []coordinationv1.Lease{lease(ago(time.Second), ago(time.Minute), never)}, ago(time.Minute), never},
		{"the one that is behind counts", []coordinationv1.Lease{
			lease(ago(time.Second), ago(time.Minute), never), lease(ago(time.Second), ago(time.Hour), never),
		}, ago(time.Hour), never},
		{"one has not reported yet", []coordinationv1.Lease{
			lease(ago(time.Second), ago(time.Minute), never), lease(ago(time.Second), never, never),
		}, never, never},
		{"one has crashed or is cut off: it is waited for", []coordinationv1.Lease{
			lease(ago(time.Second), ago(time.Minute), never), lease(ago(time.Hour), ago(2*time.Hour), never),
		}, ago(2 * time.Hour), never},
		{"one is lost: it may have given tokens for an hour", []coordinationv1.Lease{
			lease(ago(time.Second), ago(time.Minute), never), lease(ago(5*time.Hour), ago(6*time.Hour), never),
		}, ago(time.Minute), ago(4 * time.Hour)},
		{"one stopped with uses unreported", []coordinationv1.Lease{
			lease(ago(time.Second), ago(time.Minute), never), lease(ago(time.Minute), ago(time.Hour), ago(time.Minute)),
		}, ago(time.Minute), ago(time.Minute)},
		{"all are lost", []coordinationv1.Lease{lease(ago(5*time.Hour), ago(6*time.Hour), never)}, never, ago(4 * time.Hour)},
	} {
		covered, gap := coverageOf(test.leases, now)
		if !covered.Equal(test.covered) || !gap.Equal(test.gap) {
			t.Errorf("%s: covered until %v, gap until %v; want %v, %v", test.name, covered, gap, test.covered, test.gap)
		}
	}
}

func TestBeginning(t *testing.T) {
	for _, test := range []struct{ text, want string }{{"", ""}, {"abc", "abc"}, {"abcd", "abc"}, {"äöüß", "äöü"}} {
		if got := beginning(test.text, 3); got != test.want {
			t.Errorf("beginning(%q) = %q", test.text, got)
		}
	}
}
