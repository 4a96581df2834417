package tokenserver

import (
	"net/url"
	"strings"
)

type endpoint int

const (
	noEndpoint endpoint = iota
	tokenEndpoint
	introspectionEndpoint
	revocationEndpoint
	jwksEndpoint
	metadataEndpoint
)

// target is where a request goes.
type target struct {
	endpoint  endpoint
	projectID string
	prefix    string // what stands before the endpoint's own path, or is the issuer's for metadata
}

// The paths of Stytch's API, of RFC 8414 section 3 and of OpenID Connect
// Discovery 1.0 section 4.
const (
	publicPrefix   = "/v1/public/"
	tokenSuffix    = "/oauth2/token"
	inspectSuffix  = "/oauth2/introspect"
	revokeSuffix   = "/oauth2/revoke"
	jwksSuffix     = "/oauth2/jwks"
	sessionsJWKS   = "/v1/sessions/jwks/"
	b2bJWKS        = "/v1/b2b/sessions/jwks/"
	oauthWellKnown = "/.well-known/oauth-authorization-server"
	oidcWellKnown  = "/.well-known/openid-configuration"
)

// managementPrefix is what the paths of Stytch's management API begin with.
const managementPrefix = "/v1/m2m/"

func route(u *url.URL) target {
	if u.RawPath != "" {
		return target{} // no path of ours needs an escape
	}
	path := u.Path
	if rest, ok := strings.CutSuffix(path, tokenSuffix); ok {
		return project(tokenEndpoint, rest, publicPrefix)
	}
	if rest, ok := strings.CutSuffix(path, jwksSuffix); ok {
		return project(jwksEndpoint, rest, publicPrefix)
	}
	if rest, ok := strings.CutSuffix(path, inspectSuffix); ok {
		return project(introspectionEndpoint, rest, publicPrefix)
	}
	if rest, ok := strings.CutSuffix(path, revokeSuffix); ok {
		return project(revocationEndpoint, rest, publicPrefix)
	}
	if prefix, ok := strings.CutSuffix(path, oidcWellKnown); ok {
		return target{endpoint: metadataEndpoint, prefix: prefix}
	}
	if prefix, ok := strings.CutPrefix(path, oauthWellKnown); ok && (prefix == "" || prefix[0] == '/') {
		return target{endpoint: metadataEndpoint, prefix: prefix}
	}
	if to := project(jwksEndpoint, path, b2bJWKS); to.endpoint != noEndpoint {
		return to
	}
	return project(jwksEndpoint, path, sessionsJWKS)
}

// project splits a path that ends with what stands before a project id, and the id.
func project(e endpoint, path, before string) target {
	slash := strings.LastIndexByte(path, '/')
	prefix, ok := strings.CutSuffix(path[:slash+1], before)
	if !ok || slash+1 == len(path) {
		return target{}
	}
	return target{endpoint: e, projectID: path[slash+1:], prefix: prefix}
}
