package tokenserver

import (
	"encoding/base64"
	"strings"
)

// identify finds who the request says it is from, in the body and in the
// Authorization header (RFC 6749 section 2.3.1).
func (x *exchange) identify(authorization []string) error {
	x.request.ClientID = x.parameters.get("client_id")
	x.request.ClientSecret = x.parameters.get("client_secret")
	x.request.Assertion = x.parameters.get("client_assertion")
	x.request.AssertionType = x.parameters.get("client_assertion_type")
	switch len(authorization) {
	case 0:
		return nil
	case 1:
		return x.addBasic(authorization[0])
	default:
		return errTwoAuthorizations
	}
}

// addBasic takes HTTP Basic into account. A client may be named twice, but has
// one secret.
func (x *exchange) addBasic(authorization string) error {
	encodedID, encodedSecret, err := parseBasic(authorization)
	if err != nil {
		return err
	}
	id, ok := unescape(encodedID)
	if !ok || !isText(id) || id == "" {
		return errMalformedBasic
	}
	r := &x.request
	if id == x.issuer.ProjectID && (r.ClientID != "" || r.Assertion != "") {
		return nil // an SDK of Stytch's sends the project's own credential beside the client's
	}
	secret, ok := unescape(encodedSecret)
	switch {
	case !ok || !isText(secret):
		return errMalformedBasic
	case r.ClientID != "" && r.ClientID != id:
		return errTwoClients
	case r.ClientSecret != "" && secret != "":
		return errTwoSecrets
	}
	r.ClientID = id
	if secret != "" {
		r.ClientSecret = secret
	}
	return nil
}

// parseBasic reads an Authorization header (RFC 7617 section 2).
func parseBasic(authorization string) (user, password string, err error) {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", errScheme
	}
	var scratch [256]byte // keeps the usual credential off the heap
	decoded, err := base64.StdEncoding.Strict().AppendDecode(scratch[:0], []byte(strings.TrimLeft(encoded, " ")))
	if err != nil {
		return "", "", errMalformedBasic
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", errMalformedBasic
	}
	return user, password, nil
}
