package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

func TestNewTrigger(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.FixedZone("CET", 3600))
	if got := newTrigger(at, "ABCDEFGHIJ"); got != "2026-11-23T08:00:00Z-abcdef" {
		t.Error(got)
	}
}

func credentials(versions ...string) string {
	var list []string
	for _, v := range versions {
		version, role, _ := strings.Cut(v, " ")
		list = append(list, `{"version": "`+version+`", "role": "`+role+`", "createdAt": "2026-11-23T08:00:00Z"}`)
	}
	return `"credentials": [` + strings.Join(list, ",") + `]`
}

const seen = `, "observedTriggers": {"annotation": "now"}`

func readyBecause(status, reason string) string {
	return `, "conditions": [{"type": "Ready", "status": "` + status + `", "reason": "` + reason + `", "message": "says why"}]`
}

func TestRotationDone(t *testing.T) {
	for name, test := range map[string]struct {
		spec, status string
		done         bool
		says         string // the state, or the error
		fails        bool
	}{
		"not seen":                {`{}`, credentials("1-a Current") + readyBecause("True", "Issued"), false, "not seen it yet", false},
		"seen, and stalled":       {`{}`, credentials("1-a Current") + readyBecause("False", "PepperLost"), false, "PepperLost: says why", false},
		"valid, not delivered":    {`{}`, credentials("2-b Next", "1-a Current") + seen, false, "version 2-b is valid", false},
		"delivered":               {`{}`, credentials("2-b Current", "1-a Previous") + seen + readyBecause("True", "Issued"), true, "", false},
		"delivered, not granted":  {`{}`, credentials("2-b Current", "1-a Previous") + seen + readyBecause("False", "NotGranted"), true, "", false},
		"the first is gone":       {`{}`, credentials("1-a Current") + seen, false, "being made", false},
		"staged is made visible":  {`{"rotation": {"mode": "Staged"}}`, credentials("2-b Next", "1-a Current") + seen + readyBecause("False", "Rotating"), false, "version 2-b", false},
		"staged":                  {`{"rotation": {"mode": "Staged"}}`, credentials("2-b Next", "1-a Current") + seen + readyBecause("True", "Staged"), true, "", false},
		"inactive":                {`{"state": "Inactive"}`, credentials("1-a Current"), false, "Inactive", true},
		"as many as there may be": {`{}`, credentials("1-a Current") + readyBecause("False", "TooManyVersions"), false, "says why", true},
	} {
		c := clientOf(t, `{"spec": `+test.spec+`, "status": {`+test.status+`}}`)
		done, state, err := asked{trigger: "now", before: "1-a"}.done(c)
		if err != nil {
			state = err.Error()
		}
		if done != test.done || (err != nil) != test.fails || !strings.Contains(state, test.says) {
			t.Errorf("%s: %v, %q, %v", name, done, state, err)
		}
	}
	paused := clientOf(t, `{"metadata": {"annotations": {"m2m-operator.dev/pause": "true"}}}`)
	if _, _, err := (asked{}).done(paused); err == nil {
		t.Error("a paused client is waited for")
	}
}

func TestRotateChanges(t *testing.T) {
	for text, says := range map[string]string{
		`{"spec": {"secret": {"delivery": "None"}}}`: "workloadIdentities",
		`{"metadata": {"annotations": {"m2m-operator.dev/credential": "x"}}, "spec": {"secret": {"delivery": "None"}}, "status": {"clientID": "m2m-1"}}`:               "POST /v1/m2m/clients/m2m-1/secrets/rotate/start",
		`{"metadata": {"name": "billing", "namespace": "shop"}, "spec": {"rotation": {"mode": "Staged"}}, "status": {` + credentials("2-b Next", "1-a Current") + `}}`: "2-b is staged already",
	} {
		if _, err := rotateChanges(clientOf(t, text), "now"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	changes, err := rotateChanges(clientOf(t, `{"status": {`+credentials("2-b Next", "1-a Current")+`}}`), "now")
	if err != nil || !reflect.DeepEqual(changes, []change{set("now", "metadata", "annotations", v1alpha1.AnnotationRotate)}) {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestEndChanges(t *testing.T) {
	staged := `{"metadata": {"name": "billing", "namespace": "shop"}, "spec": {"rotation": {"mode": "Staged"}}, "status": {`
	for name, test := range map[string]struct{ client, version, says string }{
		"staged":          {staged + credentials("2-b Next", "1-a Current") + `}}`, "", ""},
		"staged as given": {staged + credentials("2-b Next", "1-a Current") + `}}`, "2-b", ""},
		"another":         {staged + credentials("2-b Next", "1-a Current") + `}}`, "3-c", "but 2-b is"},
		"none":            {staged + credentials("1-a Current") + `}}`, "", "no secret is staged"},
		"automatic":       {`{"status": {` + credentials("2-b Next", "1-a Current") + `}}`, "", "not staged (spec.rotation.mode)"},
	} {
		version, changes, err := endChanges(clientOf(t, test.client), v1alpha1.StagedCancel, test.version)
		if test.says != "" {
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		want := []change{set("2-b", "spec", "rotation", "staged", "version"), set("Cancel", "spec", "rotation", "staged", "action")}
		if err != nil || version != "2-b" || !reflect.DeepEqual(changes, want) {
			t.Errorf("%s: %s, %v, %v", name, version, changes, err)
		}
	}
}

func TestEnded(t *testing.T) {
	for name, test := range map[string]struct {
		action      v1alpha1.StagedActionType
		status      string
		done, fails bool
	}{
		"still staged":        {v1alpha1.StagedPromote, credentials("2-b Next", "1-a Current"), false, false},
		"promoted":            {v1alpha1.StagedPromote, credentials("2-b Current", "1-a Previous"), true, false},
		"promoted, not":       {v1alpha1.StagedPromote, credentials("1-a Current"), false, true},
		"cancelled":           {v1alpha1.StagedCancel, credentials("1-a Current"), true, false},
		"cancelled, not  yet": {v1alpha1.StagedCancel, credentials("2-b Next", "1-a Current"), false, false},
	} {
		done, _, err := ended(test.action, "2-b")(clientOf(t, `{"status": {`+test.status+`}}`))
		if done != test.done || (err != nil) != test.fails {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}
