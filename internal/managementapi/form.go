package managementapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// form takes the fields of an object one by one, and keeps the first problem with any.
// A field that is null counts as absent. No value is ever quoted: it may be a secret.
type form struct {
	path   string // of the object, with a dot; empty: it is the body
	fields members
	first  *refusal // shared with the objects inside
}

// refusal is the first problem of a form.
type refusal struct{ problem *Problem }

func newForm(fields members) *form { return &form{fields: fields, first: &refusal{}} }

// rule is what a text must be like.
type rule struct {
	expects string // "must be ..."
	holds   func(string) bool
}

// refuse keeps a problem with a field.
func (f *form) refuse(name, message string) {
	if f.first.problem == nil {
		f.first.problem = invalidArgument(f.path+name, f.path+name+" "+message)
	}
}

// take returns a field, once.
func (f *form) take(name string) (value json.RawMessage, ok bool) {
	value, ok = f.fields[name]
	delete(f.fields, name)
	return value, ok && string(value) != "null"
}

// text returns a field that is a string; nil: it is absent, or wrong.
func (f *form) text(name string, r rule) *string {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	text, ok := decodeText(value)
	if !ok || !r.holds(text) {
		f.refuse(name, "must be "+r.expects)
		return nil
	}
	return &text
}

// texts returns a field that is an array of strings; nil: it is absent, or wrong.
func (f *form) texts(name, expects string, limit int, each rule) []string {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	values, ok := decodeArray(value)
	if !ok || len(values) > limit {
		f.refuse(name, "must be "+expects)
		return nil
	}
	all := make([]string, 0, len(values))
	for i, value := range values {
		text, ok := decodeText(value)
		if !ok || !each.holds(text) {
			f.refuse(element(name, i), "must be "+each.expects)
			return nil
		}
		all = append(all, text)
	}
	return all
}

// integer returns a field that is an integer in a range; absent, or wrong, it is another.
func (f *form) integer(name string, least, most, otherwise int) int {
	value, ok := f.take(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(string(value))
	if err != nil || n < least || n > most {
		f.refuse(name, fmt.Sprintf("must be an integer from %d to %d", least, most))
		return otherwise
	}
	return n
}

// object returns a field that is an object, as a form of its own; nil: it is absent, or wrong.
func (f *form) object(name, expects string) *form {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	inside, ok := decodeObject(value)
	if !ok {
		f.refuse(name, "must be "+expects)
		return nil
	}
	return &form{path: f.path + name + ".", fields: inside, first: f.first}
}

// objects returns a field that is an array of objects.
func (f *form) objects(name, expects string, limit int) []*form {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	values, ok := decodeArray(value)
	if !ok || len(values) > limit {
		f.refuse(name, "must be "+expects)
		return nil
	}
	all := make([]*form, 0, len(values))
	for i, value := range values {
		inside, ok := decodeObject(value)
		if !ok {
			f.refuse(element(name, i), "must be an object")
			return nil
		}
		all = append(all, &form{path: f.path + element(name, i) + ".", fields: inside, first: f.first})
	}
	return all
}

// done refuses the fields that nobody took.
func (f *form) done() {
	if len(f.fields) == 0 || f.first.problem != nil {
		return
	}
	name := slices.Sorted(maps.Keys(f.fields))[0]
	f.first.problem = invalidArgument("unknown_field", fmt.Sprintf("there is no field %s here: leave it out", naming(f.path, name)))
}

// err returns the first problem, if there is one.
func (f *form) err() error {
	if f.first.problem == nil {
		return nil
	}
	return f.first.problem
}

// naming is the name of a field that isn't known, unless it is too odd to be one: it may be
// a secret in the wrong place.
func naming(path, name string) string {
	const longest = 39
	if name == "" || len(name) > longest || strings.Trim(name, alphanumeric+"_-.") != "" {
		return "of that name"
	}
	return path + name
}

func element(name string, i int) string { return name + "[" + strconv.Itoa(i) + "]" }

// The values in a body are known to be valid JSON. What decodes as null does not count.

func decodeText(value json.RawMessage) (text string, ok bool) {
	if value[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(value, &text)
	return text, err == nil
}

func decodeArray(value json.RawMessage) (values []json.RawMessage, ok bool) {
	if value[0] != '[' {
		return nil, false
	}
	err := json.Unmarshal(value, &values)
	return values, err == nil
}

func decodeObject(value json.RawMessage) (object members, ok bool) {
	if value[0] != '{' {
		return nil, false
	}
	err := json.Unmarshal(value, &object)
	return object, err == nil
}

// compact is a value without white space. Its numbers and strings stay as they were sent.
func compact(value json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}

// characters counts as Kubernetes does.
func characters(s string) int { return utf8.RuneCountInString(s) }
