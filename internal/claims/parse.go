package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse checks a template. An error is short, says what is wrong and where, and what
// to do.
func Parse(text string) (*Template, error) {
	if len(text) > MaxTemplateBytes {
		return nil, fmt.Errorf("the template has %d bytes, more than %d: shorten it", len(text), MaxTemplateBytes)
	}
	p := parser{text: text, depth: 1}
	if err := p.template(); err != nil {
		return nil, err
	}
	return &Template{parts: p.parts, tail: string(p.pending.text)}, nil
}

// parser reads a template from the front.
type parser struct {
	text    string
	at      int
	depth   int // of the object or array that is being read; the template's object is 1
	parts   []part
	pending composer // JSON since the last expression
}

func (p *parser) template() error {
	for at, r := range p.text {
		if r == utf8.RuneError && !strings.HasPrefix(p.text[at:], string(r)) {
			return p.fail(at, "this is not UTF-8: save the text as UTF-8")
		}
	}
	if !p.take('{') {
		return p.fail(p.at, "a template is a JSON object: begin it with {")
	}
	if err := p.object(); err != nil {
		return err
	}
	if p.next(); p.at < len(p.text) {
		return p.fail(p.at, "the object has ended before this: remove what follows, or a } too many")
	}
	return nil
}

// object reads on after an opening brace.
func (p *parser) object() error {
	if p.take('}') {
		return nil
	}
	var names []string
	for {
		name, err := p.name(names)
		if err != nil {
			return err
		}
		names = append(names, name)
		if !p.take(':') {
			return p.fail(p.at, "a name is followed by a colon and a value: put a : here")
		}
		if err := p.value(string(appendString([]byte{','}, name)) + ":"); err != nil {
			return err
		}
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return p.fail(p.at, "a value in an object is followed by , or }: put one here")
		}
	}
}

// array reads on after an opening bracket.
func (p *parser) array() error {
	if p.take(']') {
		return nil
	}
	for {
		if err := p.value(","); err != nil {
			return err
		}
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return p.fail(p.at, "a value in an array is followed by , or ]: put one here")
		}
	}
}

// name reads the name of a member; names are those that its object has already.
func (p *parser) name(names []string) (string, error) {
	switch p.next() {
	case '"':
	case '{':
		return "", p.fail(p.at, "an expression stands in place of a value, not of a name: write a name in double quotes before it")
	default:
		return "", p.fail(p.at, "a name belongs here: write it in double quotes")
	}
	start := p.at
	name, err := p.string("a name is fixed and holds no expression: take the {{ out of it")
	switch {
	case err != nil:
		return "", err
	case name == "" || len(name) > MaxNameBytes:
		return "", p.fail(start, "a name has 1 to %d bytes: choose another", MaxNameBytes)
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", p.fail(start, "a name has no control characters: take them out")
	case slices.Contains(names, name):
		return "", p.fail(start, "the name %s is there twice: remove one of them", quote(name))
	case p.depth == 1 && isRegisteredClaim(name):
		return "", p.fail(start, "the claim %s is the issuer's own word, in upper or lower case: choose another name", quote(name))
	}
	return name, nil
}

// value reads a value and adds it after its lead: a comma, and the name that it has.
func (p *parser) value(lead string) error {
	switch c := p.next(); {
	case p.startsExpression():
		return p.expression(lead)
	case c == '{' || c == '[':
		return p.nested(lead, c)
	case c == '"':
		s, err := p.string("an expression in a string would be text: leave out the double quotes around {{ }}")
		p.pending.add(lead)
		p.pending.text = appendString(p.pending.text, s)
		return err
	default:
		return p.word(lead)
	}
}

// nested reads an object or an array.
func (p *parser) nested(lead string, open byte) error {
	if p.depth == MaxDepth {
		return p.fail(p.at, "objects and arrays are nested deeper than %d: make it flatter", MaxDepth)
	}
	p.at++
	p.depth++
	read, brackets := p.object, "{}"
	if open == '[' {
		read, brackets = p.array, "[]"
	}
	p.pending.add(lead)
	p.pending.add(brackets[:1])
	err := read()
	p.pending.add(brackets[1:])
	p.depth--
	return err
}

// word reads a number, true, false or null.
func (p *parser) word(lead string) error {
	end := strings.IndexAny(p.text[p.at:], " \t\r\n,:\"{}[]")
	if end < 0 {
		end = len(p.text) - p.at
	}
	word := p.text[p.at : p.at+end]
	switch {
	case word == "":
		return p.fail(p.at, "a value belongs here: write one, or {{ and an expression }}")
	case !json.Valid([]byte(word)):
		return p.fail(p.at, "%s is not a JSON value: write text in double quotes, and an expression between {{ and }}", quote(word))
	}
	p.at += end
	if word != "null" {
		p.pending.add(lead)
		p.pending.add(word)
	}
	return nil
}

// string reads a string. Where it holds an expression, that is refused so.
func (p *parser) string(refusal string) (string, error) {
	start, end := p.at, p.at+1
	for ; end < len(p.text) && p.text[end] != '"'; end++ {
		if p.text[end] == '\\' {
			end++
		}
	}
	if end >= len(p.text) {
		return "", p.fail(start, "this string doesn't end: close it with a double quote")
	}
	p.at = end + 1
	if open := strings.Index(p.text[start:p.at], "{{"); open >= 0 {
		return "", p.fail(start+open, "%s", refusal)
	}
	var s string
	if err := json.Unmarshal([]byte(p.text[start:p.at]), &s); err != nil {
		return "", p.fail(start, `this string has a line break, another control character or an unknown escape: write it as JSON does, such as \n or \u000a`)
	}
	return s, nil
}

// expression reads an expression and its braces.
func (p *parser) expression(lead string) error {
	start := p.at
	p.at += len("{{")
	path, err := p.path()
	if err != nil {
		return err
	}
	if p.next(); !strings.HasPrefix(p.text[p.at:], "}}") {
		return p.fail(p.at, "an expression is a path such as client.trusted_metadata.tier and nothing else: end it with }} here")
	}
	p.at += len("}}")
	e, err := newExpression(path)
	if err != nil {
		return p.fail(start, "%s", err)
	}
	if len(p.parts) == MaxExpressions {
		return p.fail(start, "there are more than %d expressions: use fewer", MaxExpressions)
	}
	p.parts = append(p.parts, part{string(p.pending.text), lead, e})
	p.pending = composer{}
	return nil
}

// path reads names, each but the first after a dot or in brackets.
func (p *parser) path() ([]string, error) {
	p.next()
	root, err := p.identifier()
	path := []string{root}
	for err == nil && p.at < len(p.text) {
		var name string
		switch p.text[p.at] {
		case '.':
			p.at++
			name, err = p.identifier()
		case '[':
			p.at++
			name, err = p.bracketed()
		default:
			return path, nil
		}
		path = append(path, name)
	}
	return path, err
}

func (p *parser) identifier() (string, error) {
	start := p.at
	for p.at < len(p.text) && isIdentifier(p.text[p.at]) {
		p.at++
	}
	if p.at == start {
		return "", p.fail(p.at, `a name of letters, digits, _ and - belongs here: write one, and other names in brackets, as in client.trusted_metadata["odd key"]`)
	}
	return p.text[start:p.at], nil
}

// bracketed reads a string and the bracket that closes.
func (p *parser) bracketed() (string, error) {
	if p.at == len(p.text) || p.text[p.at] != '"' {
		return "", p.fail(p.at, `brackets hold a key in double quotes, as in client.trusted_metadata["odd key"]: write one`)
	}
	name, err := p.string("a key in brackets is fixed and holds no expression: take the {{ out of it")
	if err != nil {
		return "", err
	}
	if p.at == len(p.text) || p.text[p.at] != ']' {
		return "", p.fail(p.at, "a bracket is open: close it with ] here")
	}
	p.at++
	return name, nil
}

// startsExpression tells {{ from the brace of an object, which a name follows.
func (p *parser) startsExpression() bool { return strings.HasPrefix(p.text[p.at:], "{{") }

// next returns the character that comes next after white space; 0: none.
func (p *parser) next() byte {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return c
		}
	}
	return 0
}

// take reads one character, and the white space before it, if it comes next.
func (p *parser) take(c byte) bool {
	if p.next() != c {
		return false
	}
	p.at++
	return true
}

// fail says where something is wrong: lines and columns are counted from 1, columns
// in characters.
func (p *parser) fail(at int, format string, args ...any) error {
	before := p.text[:at]
	line := before[strings.LastIndexByte(before, '\n')+1:]
	where := fmt.Sprintf("line %d, column %d: ", 1+strings.Count(before, "\n"), 1+utf8.RuneCountInString(line))
	if at == len(p.text) {
		where = "at the end of the template: "
	}
	return errors.New(where + fmt.Sprintf(format, args...))
}
