package tokenserver

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
)

// read reads the request as far as it says who asks for what.
func (x *exchange) read(r *http.Request) error {
	if r.Method != http.MethodPost {
		return errMethod
	}
	if err := checkQuery(r.URL); err != nil {
		return err
	}
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return errEncoding
	}
	parse, err := parserFor(r.Header["Content-Type"])
	if err != nil {
		return err
	}
	if err := x.readBody(r); err != nil {
		return err
	}
	if err := parse(&x.parameters, string(x.body)); err != nil {
		return err
	}
	if err := x.identify(r.Header["Authorization"]); err != nil {
		return err
	}
	x.request.GrantType = x.parameters.get("grant_type")
	x.request.Scope = x.parameters.get("scope")
	x.request.Resources = x.parameters.resources()
	return nil
}

// misplaced are the parameters that must not stand in a URL, where proxies log
// them (RFC 6749 section 2.3.1).
var misplaced = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "assertion",
	"grant_type", "scope", "resource", "audience", "access_token", "token", "username", "password",
}

func checkQuery(u *url.URL) error {
	if u.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errQuery
	}
	for name := range query {
		if slices.Contains(misplaced, strings.ToLower(name)) {
			return errQuery
		}
	}
	return nil
}

// parserFor chooses by Content-Type.
func parserFor(contentType []string) (func(*parameters, string) error, error) {
	if len(contentType) != 1 {
		return nil, errContentType
	}
	mediaType := contentType[0]
	if mediaType != formType && mediaType != jsonType { // the usual ones need no parsing
		var attributes map[string]string
		var err error
		mediaType, attributes, err = mime.ParseMediaType(mediaType)
		if charset, ok := attributes["charset"]; err != nil || ok && !strings.EqualFold(charset, "utf-8") {
			return nil, errContentType
		}
	}
	switch mediaType {
	case formType:
		return (*parameters).parseForm, nil
	case jsonType:
		return (*parameters).parseJSON, nil
	default:
		return nil, errContentType
	}
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// maxBody bounds a body in bytes.
const maxBody = 64 << 10

// readBody never holds more than a little over maxBody.
func (x *exchange) readBody(r *http.Request) error {
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	x.body = slices.Grow(x.body, int(max(r.ContentLength, 512))+1)
	for {
		n, err := r.Body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		switch {
		case len(x.body) > maxBody:
			return errTooLarge
		case err == io.EOF:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errSlowBody
		case err != nil:
			return errBrokenBody
		}
		x.body = slices.Grow(x.body, 1)
	}
}
