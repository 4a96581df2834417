package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRevokeChanges(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 500, time.UTC)
	revoke := func(versions ...any) change { return set(versions, "spec", "rotation", "revoke") }
	cut := set("2026-11-23T08:00:01Z", "spec", "token", "notBefore")
	status := `"status": {` + credentials("3-c Current", "2-b Previous", "1-a Previous") + `}`
	for name, test := range map[string]struct {
		client   string
		what     revoked
		versions []string
		changes  []change
		says     string
	}{
		"a version":              {`{` + status + `}`, revoked{versions: []string{"2-b"}}, []string{"2-b"}, []change{revoke("2-b")}, ""},
		"the list is appended":   {`{"spec": {"rotation": {"revoke": ["1-x"]}}, ` + status + `}`, revoked{versions: []string{"2-b"}}, []string{"2-b"}, []change{revoke("1-x", "2-b")}, ""},
		"all that were replaced": {`{` + status + `}`, revoked{previous: true}, []string{"1-a", "2-b"}, []change{revoke("1-a", "2-b")}, ""},
		"none was replaced":      {`{"status": {` + credentials("3-c Current") + `}}`, revoked{previous: true}, nil, nil, ""},
		"not valid":              {`{` + status + `}`, revoked{versions: []string{"9-z"}}, nil, nil, "valid are 3-c, 2-b, 1-a"},
		"revoked before":         {`{"spec": {"rotation": {"revoke": ["9-z"]}}, ` + status + `}`, revoked{versions: []string{"9-z"}}, []string{"9-z"}, []change{revoke("9-z")}, ""},
		"tokens":                 {`{` + status + `}`, revoked{tokens: true}, nil, []change{cut}, ""},
		"tokens, cut off later":  {`{"spec": {"token": {"notBefore": "2026-11-24T00:00:00Z"}}}`, revoked{tokens: true}, nil, nil, ""},
		"tokens without secret":  {`{"spec": {"secret": {"delivery": "None"}}}`, revoked{tokens: true}, nil, []change{cut}, ""},
		"no secret":              {`{"spec": {"secret": {"delivery": "None"}}}`, revoked{previous: true}, nil, nil, "it has no secret"},
		"both":                   {`{` + status + `}`, revoked{versions: []string{"3-c"}, tokens: true}, []string{"3-c"}, []change{cut, revoke("3-c")}, ""},
	} {
		versions, changes, err := revokeChanges(clientOf(t, test.client), test.what, now)
		if test.says != "" {
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || strings.Join(versions, ",") != strings.Join(test.versions, ",") || !reflect.DeepEqual(changes, test.changes) {
			t.Errorf("%s: %v, %v, %v", name, versions, changes, err)
		}
	}
}

// A full list makes room by what ended long ago, and never by what is valid.
func TestRevokeListIsBounded(t *testing.T) {
	var old []string
	for n := range maxRevoked {
		old = append(old, fmt.Sprintf(`"%d-x"`, n+1))
	}
	c := clientOf(t, `{"spec": {"rotation": {"revoke": [`+strings.Join(old, ",")+`]}}, "status": {`+credentials("40-c Current", "39-b Previous", "1-x Previous")+`}}`)
	list := revokeList(c, []string{"39-b"})
	if len(list) != maxRevoked || list[0] != "1-x" || list[1] != "3-x" || list[maxRevoked-1] != "39-b" {
		t.Error(list)
	}
}
