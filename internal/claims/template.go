// Package claims renders the custom claims of tokens from an issuer's template: a
// JSON object (RFC 8259) in which an expression may stand in place of a value.
//
//	{
//	  "tier": {{ client.trusted_metadata.billing_tier }},
//	  "user": {{ request.user_id }},
//	  "tags": ["m2m", {{ client.trusted_metadata["odd key"] }}]
//	}
//
// The expressions are:
//
//	client.client_id              the client's id
//	client.namespace              its Kubernetes namespace
//	client.trusted_metadata.a.b   a value of its granted metadata, of any type
//	request.name                  a parameter of the token request: text, the caller's own word
//
// A name with other characters than letters, digits, `_` and `-` is written ["so"]
// in place of .so. A string holds no expression; the characters `{{` are written
// "\u007b{" in one.
//
// There is one rule for what has no value, because it is missing or null, or because
// the template says null: its member, or its element of an array, is left out. What
// becomes empty by that stays, as {} or []. Values of metadata are data: null inside
// them stays.
//
// Values are encoded as JSON, so whatever they are, they stay values. The work is
// done in three steps: [Parse] once a template, [Template.Bind] once a client, and
// [Bound.Append] once a token.
package claims

import "slices"

// The bounds of a template and of what is rendered.
const (
	MaxTemplateBytes  = 4096
	MaxExpressions    = 64
	MaxDepth          = 8     // of objects and arrays in a template, its own object included
	MaxNameBytes      = 128   // of a member, or of a parameter
	MaxClientBytes    = 8192  // all that a client's values are, as JSON; also a value of metadata before it is compacted
	MaxMetadataDepth  = 16    // of objects and arrays in a value of metadata
	MaxParameterBytes = 1024  // a parameter's value
	MaxBytes          = 16384 // all that is rendered
)

// Template is a checked template of custom claims. It doesn't change and may be
// shared.
type Template struct {
	parts []part
	tail  string // JSON after the last expression
}

// part is an expression and the JSON before it.
type part struct {
	before string // see composer
	lead   string // a comma, and a name where it is a member's value: left out with the value
	expression
}

// MetadataKeys returns the top-level keys of trusted metadata that the template
// reads, sorted.
func (t *Template) MetadataKeys() []string { return t.names(fromMetadata) }

// RequestParameters returns the names of the parameters of a token request that the
// template reads, sorted.
func (t *Template) RequestParameters() []string { return t.names(fromRequest) }

// names returns the first name after each client.trusted_metadata or request, sorted.
func (t *Template) names(from source) []string {
	var names []string
	for i := range t.parts {
		if p := &t.parts[i]; p.source == from {
			names = append(names, p.path[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
