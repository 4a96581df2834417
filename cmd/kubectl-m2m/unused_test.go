package main

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

const day = 24 * time.Hour

func TestSortOut(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	since := now.Add(-90 * day)
	daysAgo := func(n int) metav1.Time { return metav1.NewTime(now.Add(-time.Duration(n) * day)) }
	current := reported{known: true, until: now.Add(-time.Hour)}
	used := func(days ...int) (all []v1alpha1.VersionUsage) {
		for _, n := range days {
			all = append(all, v1alpha1.VersionUsage{Version: "1-abcd", LastUsedAt: daysAgo(n)})
		}
		return all
	}
	made := func(n int) []v1alpha1.CredentialStatus {
		return []v1alpha1.CredentialStatus{{Version: "1-abcd", CreatedAt: daysAgo(n)}}
	}
	rotated := daysAgo(5)
	for name, test := range map[string]struct {
		created int // days ago
		status  v1alpha1.M2MClientStatus
		paused  bool
		heard   reported
		want    string // used, unused, unknown
	}{
		"used lately":              {200, v1alpha1.M2MClientStatus{Usage: used(1)}, false, current, "used"},
		"used at the edge":         {200, v1alpha1.M2MClientStatus{Usage: used(90)}, false, current, "used"},
		"one of two ways lately":   {200, v1alpha1.M2MClientStatus{Usage: used(100, 3)}, false, current, "used"},
		"used before":              {200, v1alpha1.M2MClientStatus{Usage: used(91)}, false, current, "unused"},
		"never used":               {200, v1alpha1.M2MClientStatus{Credentials: made(200)}, false, current, "unused"},
		"never used, no secret":    {200, v1alpha1.M2MClientStatus{}, false, current, "unused"},
		"never used, but rotated":  {200, v1alpha1.M2MClientStatus{Credentials: made(5), LastRotationTime: &rotated}, false, current, "unused"},
		"new":                      {89, v1alpha1.M2MClientStatus{}, false, current, "unknown"},
		"new and used":             {89, v1alpha1.M2MClientStatus{Usage: used(1)}, false, current, "used"},
		"its status was lost":      {200, v1alpha1.M2MClientStatus{Credentials: made(5)}, false, current, "unknown"},
		"paused":                   {200, v1alpha1.M2MClientStatus{Usage: used(91)}, true, current, "unknown"},
		"no server":                {200, v1alpha1.M2MClientStatus{Usage: used(91)}, false, reported{known: true}, "unknown"},
		"servers are behind":       {200, v1alpha1.M2MClientStatus{Usage: used(91)}, false, reported{known: true, until: now.Add(-25 * time.Hour)}, "unknown"},
		"a server was lost":        {200, v1alpha1.M2MClientStatus{Usage: used(91)}, false, reported{true, current.until, now.Add(-20 * day)}, "unknown"},
		"a server was lost before": {200, v1alpha1.M2MClientStatus{Usage: used(120)}, false, reported{true, current.until, now.Add(-100 * day)}, "unused"},
		"Leases can't be read":     {200, v1alpha1.M2MClientStatus{Usage: used(91)}, false, reported{}, "unused"},
	} {
		c := &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Name: "c", CreationTimestamp: daysAgo(test.created)}, Status: test.status}
		if test.paused {
			c.Annotations = map[string]string{v1alpha1.AnnotationPause: "true"}
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c)
		if err != nil {
			t.Fatal(err)
		}
		found, err := sortOut([]unstructured.Unstructured{{Object: object}}, test.heard, since, now)
		if err != nil {
			t.Fatal(err)
		}
		got := "used"
		if len(found) == 1 {
			got = "unused"
			if found[0].why != "" {
				got = "unknown"
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s %+v", name, got, test.want, found)
		}
	}
}

func TestReportedIn(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }
	lease := func(renewed time.Duration, annotation, value string) coordinationv1.Lease {
		at := metav1.NewMicroTime(now.Add(-renewed))
		return coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotation: value}},
			Spec:       coordinationv1.LeaseSpec{RenewTime: &at},
		}
	}
	lives := func(d time.Duration) coordinationv1.Lease {
		return lease(time.Minute, v1alpha1.AnnotationReportedUntil, ago(d))
	}
	for name, test := range map[string]struct {
		leases     []coordinationv1.Lease
		until, gap time.Time
	}{
		"none":           {nil, time.Time{}, time.Time{}},
		"two that live":  {[]coordinationv1.Lease{lives(time.Minute), lives(time.Hour)}, now.Add(-time.Hour), time.Time{}},
		"one says none":  {[]coordinationv1.Lease{lives(time.Minute), lease(0, "x", "")}, time.Time{}, time.Time{}},
		"one was lost":   {[]coordinationv1.Lease{lives(0), lease(2*time.Hour, v1alpha1.AnnotationReportedUntil, ago(3*time.Hour))}, now, now.Add(-time.Hour)},
		"one stopped":    {[]coordinationv1.Lease{lease(time.Minute, v1alpha1.AnnotationStoppedAt, ago(time.Hour)), lives(0)}, now, now.Add(-time.Hour)},
		"all are gone":   {[]coordinationv1.Lease{lease(3*time.Hour, v1alpha1.AnnotationReportedUntil, ago(0))}, time.Time{}, now.Add(-2 * time.Hour)},
		"garbage in one": {[]coordinationv1.Lease{lease(0, v1alpha1.AnnotationReportedUntil, "yesterday")}, time.Time{}, time.Time{}},
	} {
		r := reportedIn(test.leases, now)
		if !r.known || !r.until.Equal(test.until) || !r.gap.Equal(test.gap) {
			t.Errorf("%s: %+v, want %v %v", name, r, test.until, test.gap)
		}
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "12w": 84 * day, "2160h": 90 * day, "48h": 2 * day, "2d": 2 * day,
		"1d": 0, "47h59m": 0, "-90d": 0, "": 0, "d": 0, "90": 0, "99999d": 0, "9223372036854775807w": 0, "1.5d": 0, "0x10d": 0,
	} {
		got, err := parseSpan(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	for _, text := range []string{"90d", "12w", "2160h", "9999999999999h", "d"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseSpan(text); err == nil && (d < shortestIdle || d > longest) {
			t.Errorf("%q: %v", text, d)
		}
	})
}
