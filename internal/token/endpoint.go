package token

// EndpointURL returns the token endpoint of an issuer (Stytch's path).
func EndpointURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/token"
}

// IntrospectionURL returns the introspection endpoint of an issuer (RFC 7662).
func IntrospectionURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/introspect"
}

// RevocationURL returns the revocation endpoint of an issuer (RFC 7009).
func RevocationURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/revoke"
}

// JWKSURL returns where an issuer's public keys are (its `jwks_uri`).
func JWKSURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/jwks"
}
