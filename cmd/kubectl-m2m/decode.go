package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/internal/jws"
)

// decoded is a token for people to read: nothing in it was verified.
type decoded struct {
	Header json.RawMessage `json:"header"`
	Claims json.RawMessage `json:"claims"`
}

var errNotToken = errors.New("it is not a signed JWT: three parts in base64url, the first two of them JSON objects")

// decodeToken reads header and claims of a compact JWS (RFC 7515 section 7.1).
func decodeToken(text string) (*decoded, error) {
	if len(text) > jws.MaxBytes {
		return nil, errors.New("it is larger than 16 KiB")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || strings.ContainsAny(text, "\r\n") {
		return nil, errNotToken
	}
	d := &decoded{}
	for i, into := range []*json.RawMessage{&d.Header, &d.Claims} {
		part, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, errNotToken
		}
		if _, err := membersOf(part); err != nil {
			return nil, errNotToken
		}
		*into = part
	}
	return d, nil
}

// member is a member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// membersOf are the members of one JSON object, in their order.
func membersOf(text []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errNotToken
	}
	var all []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)} // a name is nothing else
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotToken
	}
	return all, nil
}

// page writes the token with its times in words.
func (d *decoded) page(now time.Time) string {
	p := &page{}
	for _, part := range []struct {
		title string
		text  []byte
	}{{"Header", d.Header}, {"Claims", d.Claims}} {
		if p.Len() > 0 {
			p.WriteString("\n")
		}
		p.WriteString(part.title + "\n")
		all, _ := membersOf(part.text) // it was read before
		var rows []row
		for _, m := range all {
			rows = append(rows, row{"", []string{clean(m.name), shown(m, now)}})
		}
		p.table(rows)
	}
	return p.String()
}

// shown is a value as people read it: texts without quotes, times in words.
func shown(m member, now time.Time) string {
	var text string
	if json.Unmarshal(m.value, &text) == nil {
		return clean(text)
	}
	var seconds float64
	isTime := m.name == "exp" || m.name == "nbf" || m.name == "iat"
	const latest = 253402300799 // of year 9999
	if isTime && json.Unmarshal(m.value, &seconds) == nil && seconds >= 0 && seconds <= latest {
		return clean(string(m.value)) + "  " + moment(time.Unix(int64(seconds), 0), now)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, m.value) != nil {
		return clean(string(m.value))
	}
	return clean(compact.String())
}

// moment is a time, and how far away it is.
func moment(at, now time.Time) string {
	t := metav1.NewTime(at)
	if at.After(now) {
		return stamp(t) + ", " + in(&t, now)
	}
	return stamp(t) + ", " + ago(&t, now) + " ago"
}
