package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// printToken shows a token's header and claims.
func printToken(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("not a JWT: %q", token)
	}
	for n, name := range []string{"header", "claims"} {
		content, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			return err
		}
		fmt.Printf("\nIts %s: %s\n", name, indented(content))
	}
	return nil
}

// verifyToken verifies a token of a client as the services that it calls do, and
// returns its scopes.
func verifyToken(token string, jwks []byte, issuer, clientID string) (string, error) {
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	_, err := jwt.ParseWithClaims(token, &claims,
		func(t *jwt.Token) (any, error) { return publicKey(jwks, t.Header["kid"]) },
		jwt.WithValidMethods([]string{"ES256"}),
		jwt.WithIssuer(issuer),
		jwt.WithSubject(clientID),
		jwt.WithExpirationRequired(),
	)
	return claims.Scope, err
}

// publicKey finds a key in a JWKS.
func publicKey(jwks []byte, kid any) (*ecdsa.PublicKey, error) {
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
			X  string `json:"x"`
			Y  string `json:"y"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return nil, err
	}
	for _, key := range set.Keys {
		if key.ID != kid {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, err
		}
		y, err := base64.RawURLEncoding.DecodeString(key.Y)
		if err != nil {
			return nil, err
		}
		const uncompressed = 4
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), bytes.Join([][]byte{{uncompressed}, x, y}, nil))
	}
	return nil, fmt.Errorf("no published key has the id %v", kid)
}

func indented(content []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, content, "", "  "); err != nil {
		return string(content)
	}
	return b.String()
}
