package token

// EndpointURL returns the token endpoint of an issuer (Stytch's path).
func EndpointURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/token"
}

// JWKSURL returns where an issuer's public keys are (its `jwks_uri`).
func JWKSURL(issuerURL, projectID string) string {
	return issuerURL + "/v1/public/" + projectID + "/oauth2/jwks"
}
