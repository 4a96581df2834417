// Package ownership says who owns which fields of an object, as server-side apply records
// it (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
package ownership

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Fields reads the fields of one manager.
func Fields(e metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	fields := &fieldpath.Set{}
	if e.FieldsV1 == nil {
		return fields, nil
	}
	if err := fields.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
		return nil, fmt.Errorf("the fields that %q manages can't be read: %w", e.Manager, err)
	}
	return fields, nil
}

// Managers returns the field managers that own a field or something in it, sorted. One
// whose fields can't be read may own anything.
func Managers(entries []metav1.ManagedFieldsEntry, path ...string) []string {
	var managers []string
	for _, e := range entries {
		if fields, err := Fields(e); err != nil || owned(fields, path) {
			managers = append(managers, e.Manager)
		}
	}
	slices.Sort(managers)
	return slices.Compact(managers)
}

func owned(fields *fieldpath.Set, path []string) bool {
	found := false
	fields.Iterate(func(p fieldpath.Path) { found = found || below(p, path) })
	return found
}

// below tells whether a path begins with the names of fields.
func below(p fieldpath.Path, names []string) bool {
	if len(p) < len(names) {
		return false
	}
	for i, name := range names {
		if p[i].FieldName == nil || *p[i].FieldName != name {
			return false
		}
	}
	return true
}

// Conflict is a field that wasn't applied, because another manager owns it.
type Conflict struct{ Field, Manager string }

var conflictWith = regexp.MustCompile(`^conflict with ("(?:[^"\\]|\\.)*")`)

// Conflicts returns the conflicts of field managers that an API server's error is about;
// nil: it is about something else.
func Conflicts(err error) []Conflict {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var conflicts []Conflict
	for _, cause := range status.Status().Details.Causes {
		match := conflictWith.FindStringSubmatch(cause.Message)
		if cause.Type != metav1.CauseTypeFieldManagerConflict || match == nil {
			continue
		}
		manager, err := strconv.Unquote(match[1])
		if err != nil {
			manager = match[1]
		}
		conflicts = append(conflicts, Conflict{strings.TrimPrefix(cause.Field, "."), manager})
	}
	return conflicts
}
