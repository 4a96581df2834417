package claims

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Client is what of a client a template can read.
type Client struct {
	ID        string
	Namespace string
	Metadata  map[string]json.RawMessage // of its trusted metadata, what is granted
}

// Bind puts a client's values into a template. The error says which value can't be
// used, and quotes none; the claims are then none at all.
func (t *Template) Bind(c Client) (Bound, error) {
	var to composer
	size := 0
	for i := range t.parts {
		p := &t.parts[i]
		to.add(p.before)
		if p.source == fromRequest {
			to.leave(p.lead, p.path[0])
			continue
		}
		value, err := c.evaluate(p.expression)
		if err != nil {
			return Bound{}, err
		}
		if value == nil {
			continue
		}
		if size += len(value); size > MaxClientBytes {
			return Bound{}, fmt.Errorf("the client's values in the custom claims have more than %d bytes: make its trusted metadata smaller", MaxClientBytes)
		}
		to.add(p.lead)
		to.text = append(to.text, value...)
	}
	to.add(t.tail)
	return Bound{string(to.text)}, nil
}

// evaluate returns a value as JSON; nil: there is none.
func (c *Client) evaluate(e expression) ([]byte, error) {
	switch e.source {
	case fromClientID:
		return appendString(nil, c.ID), nil
	case fromNamespace:
		return appendString(nil, c.Namespace), nil
	default:
		value, err := c.lookUp(e.path)
		if err != nil {
			return nil, fmt.Errorf("trustedMetadata[%s] %w", quote(e.path[0]), err)
		}
		return value, nil
	}
}

// lookUp returns the value of metadata at a path, compact and with its members
// sorted. Numbers stay as they are written.
func (c *Client) lookUp(path []string) ([]byte, error) {
	raw := c.Metadata[path[0]]
	switch {
	case len(raw) == 0:
		return nil, nil
	case len(raw) > MaxClientBytes:
		return nil, fmt.Errorf("has more than %d bytes: make it smaller", MaxClientBytes)
	}
	value, err := decode(raw)
	if err != nil {
		return nil, err
	}
	for _, key := range path[1:] {
		object, _ := value.(map[string]any)
		value = object[key]
	}
	if value == nil {
		return nil, nil
	}
	if deeper(value, MaxMetadataDepth) {
		return nil, fmt.Errorf("is nested deeper than %d: make it flatter", MaxMetadataDepth)
	}
	return encode(value)
}

var errNotJSON = errors.New("is not JSON: correct it")

func decode(raw []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if !json.Valid(raw) || decoder.Decode(&value) != nil { // a decoder alone ignores what follows the value
		return nil, errNotJSON
	}
	return value, nil
}

// deeper tells whether objects and arrays are nested deeper than a bound.
func deeper(value any, bound int) bool {
	var inside []any
	switch v := value.(type) {
	case map[string]any:
		inside = slices.Collect(maps.Values(v))
	case []any:
		inside = v
	default:
		return false
	}
	return bound == 0 || slices.ContainsFunc(inside, func(v any) bool { return deeper(v, bound-1) })
}

func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // nobody puts a token into a page
	if err := encoder.Encode(value); err != nil {
		return nil, errNotJSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
