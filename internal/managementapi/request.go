package managementapi

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Bounds of what may be asked; those of clients are the same as in their manifests.
const (
	maxChosenID      = 128 // characters, as the ones below
	minSecret        = 8
	maxSecret        = 256
	maxName          = 256
	maxDescription   = 1024
	maxScope         = 128
	maxScopes        = 100
	maxMetadataKeys  = 20
	maxMetadataBytes = 4 << 10 // of compact JSON
	maxCursor        = 4 << 10 // bytes
	maxOperands      = 20
	maxValues        = 100
	maxValue         = 1024 // characters
)

var (
	chosenID = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._~]*[A-Za-z0-9])?$`)
	oneScope = regexp.MustCompile(`^[!#-\[\]-~]+$`) // RFC 6749 section 3.3
)

// What the fields must be like.
var (
	ruleChosenID = rule{"a string of 1 to 128 letters, digits, '-', '.', '_' and '~' that starts and ends with a letter or digit", func(s string) bool {
		return len(s) <= maxChosenID && chosenID.MatchString(s)
	}}
	ruleSecret = rule{"a string of 8 to 256 printable ASCII characters without spaces", func(s string) bool {
		return len(s) >= minSecret && len(s) <= maxSecret && visible(s)
	}}
	ruleName = rule{"a string of at most 256 characters in one line, without control characters", func(s string) bool {
		return characters(s) <= maxName && strings.IndexFunc(s, isControl) < 0
	}}
	ruleDescription = rule{"a string of at most 1024 characters, without control characters other than tabs and line ends", func(s string) bool {
		return characters(s) <= maxDescription && strings.IndexFunc(s, func(c rune) bool { return isControl(c) && !strings.ContainsRune("\t\n\r", c) }) < 0
	}}
	ruleScope = rule{"a string of 1 to 128 printable ASCII characters without space, double quote and backslash (RFC 6749 section 3.3)", func(s string) bool {
		return len(s) <= maxScope && oneScope.MatchString(s)
	}}
	ruleStatus   = rule{"the string active or inactive", func(s string) bool { return s == statusActive || s == statusInactive }}
	ruleCursor   = rule{"a string, the next_cursor of an earlier search", func(s string) bool { return len(s) <= maxCursor }}
	ruleOperator = rule{"the string AND or OR", func(s string) bool { return s == "AND" || s == "OR" }}
	ruleFilter   = rule{"the string client_id, client_name or scopes", func(s string) bool {
		return slices.Contains([]Field{FieldClientID, FieldClientName, FieldScopes}, Field(s))
	}}
	ruleValue = rule{"a string of at most 1024 characters", func(s string) bool { return characters(s) <= maxValue }}
	ruleAny   = rule{"a string", func(string) bool { return true }}
)

// isControl is what the manifests of clients take for a control character.
func isControl(c rune) bool { return c < ' ' || c >= 0x7f && c <= 0x9f }

// readCreation reads a call that creates a client. All of it is optional.
func readCreation(c *call, r *http.Request) (Creation, error) {
	object, err := readObject(r, false)
	if err != nil {
		return Creation{}, err
	}
	f := newForm(object)
	creation := Creation{
		ID:              value(f.text("client_id", ruleChosenID)),
		Secret:          value(f.text("client_secret", ruleSecret)),
		Name:            value(f.text("client_name", ruleName)),
		Description:     value(f.text("client_description", ruleDescription)),
		Scopes:          f.scopes(),
		TrustedMetadata: f.metadata(false),
	}
	f.done()
	c.clientID = creation.ID
	return creation, f.err()
}

// readChange reads a call that updates a client: what is absent stays.
func readChange(c *call, r *http.Request) (Change, error) {
	object, err := readObject(r, false)
	if err != nil {
		return Change{}, err
	}
	f := newForm(object)
	f.sameClient(c.clientID)
	change := Change{
		Name:            f.text("client_name", ruleName),
		Description:     f.text("client_description", ruleDescription),
		TrustedMetadata: f.metadata(true),
	}
	if status := f.text("status", ruleStatus); status != nil {
		active := *status == statusActive
		change.Active = &active
	}
	if scopes := f.scopes(); scopes != nil {
		change.Scopes = &scopes
	}
	f.done()
	return change, f.err()
}

// readRotation reads a call of a rotation, which says all in its path.
func readRotation(c *call, r *http.Request) error {
	object, err := readObject(r, true)
	if err != nil {
		return err
	}
	f := newForm(object)
	f.sameClient(c.clientID)
	f.done()
	return f.err()
}

// readSearch reads a search. Nothing asked for finds all.
func readSearch(r *http.Request) (Search, error) {
	object, err := readObject(r, true)
	if err != nil {
		return Search{}, err
	}
	f := newForm(object)
	search := Search{
		Cursor: value(f.text("cursor", ruleCursor)),
		Limit:  f.integer("limit", 1, MaxLimit, DefaultLimit),
	}
	if q := f.object("query", "an object with operator and operands"); q != nil {
		search.Query = q.query()
	}
	f.done()
	return search, f.err()
}

// query reads the condition of a search.
func (f *form) query() (q Query) {
	q.Any = value(f.text("operator", ruleOperator)) == "OR"
	for _, o := range f.objects("operands", "an array of at most 20 objects with filter_name and filter_value", maxOperands) {
		q.Operands = append(q.Operands, o.operand())
	}
	f.done()
	return q
}

func (f *form) operand() Operand {
	const expects = "an array of 1 to 100 strings"
	name := f.text("filter_name", ruleFilter)
	if name == nil {
		f.refuse("filter_name", "is missing: it must be "+ruleFilter.expects)
	}
	values := f.texts("filter_value", expects, maxValues, ruleValue)
	if len(values) == 0 {
		f.refuse("filter_value", "must be "+expects)
	}
	f.done()
	return Operand{Field: Field(value(name)), Values: values}
}

// sameClient checks that a body names the client of the path, if it names one.
func (f *form) sameClient(id string) {
	if named := f.text("client_id", ruleAny); named != nil && *named != id && f.first.problem == nil {
		f.first.problem = errWrongClient
	}
}

// scopes of a client; nil: they are absent, or wrong.
func (f *form) scopes() []string {
	scopes := f.texts("scopes", "an array of at most 100 strings", maxScopes, ruleScope)
	for i, scope := range scopes {
		if slices.Contains(scopes[:i], scope) {
			f.refuse(element("scopes", i), "is listed before: list each scope once")
			return nil
		}
	}
	return scopes
}

// metadata of a client; nil: it is absent, or wrong. A key with null is one to remove, and
// goes where there is nothing to remove it from.
func (f *form) metadata(patch bool) map[string]json.RawMessage {
	const name = "trusted_metadata"
	raw, ok := f.take(name)
	if !ok {
		return nil
	}
	object, ok := decodeObject(raw)
	if !ok {
		f.refuse(name, "must be an object")
		return nil
	}
	metadata := map[string]json.RawMessage{}
	keys, size := 0, len("{}")
	for key, value := range object {
		removed := string(value) == "null"
		if removed && !patch {
			continue
		}
		metadata[key] = compact(value)
		if removed {
			continue
		}
		quoted, _ := json.Marshal(key) // a string always encodes
		keys++
		size += len(quoted) + len(":") + len(metadata[key]) + len(",")
	}
	if keys > 0 {
		size-- // the last has no comma
	}
	switch {
	case keys > maxMetadataKeys:
		f.refuse(name, "must have at most 20 top-level keys")
	case size > maxMetadataBytes:
		f.refuse(name, "must have at most 4096 bytes of compact JSON")
	default:
		return metadata
	}
	return nil
}

// value is what a pointer points to, if it does.
func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
