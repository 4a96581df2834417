package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// floorClaims are those of the product's tokens.
type floorClaims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// newFloor is the least that a token server in Go can be when it is put together
// from net/http and golang-jwt: it parses the request, compares one SHA-256 or checks
// one assertion, and signs. No lookup, no scopes, no replays, no audit, no metrics, no
// timeouts.
func newFloor(s *setup) (http.Handler, error) {
	key, err := keyring.Generate(rand.Reader, s.Algorithm, time.Now())
	if err != nil {
		return nil, err
	}
	authenticate, err := s.floorMethod()
	if err != nil {
		return nil, err
	}
	sign := newSigner(key)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		clientID, scope, ok := authenticate(r)
		if !ok {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		now := time.Now()
		signed, err := sign(floorClaims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer:    issuerURL,
				Subject:   clientID,
				Audience:  jwt.ClaimStrings{projectID},
				IssuedAt:  jwt.NewNumericDate(now),
				NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)),
				ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
			},
			Scope: scope,
		})
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(struct {
			AccessToken string `json:"access_token"`
			TokenType   string `json:"token_type"`
			ExpiresIn   int    `json:"expires_in"`
		}{signed, "bearer", 3600})
	}), nil
}

// floorMethod is how a floor reads and authenticates a request.
func (s *setup) floorMethod() (func(*http.Request) (clientID, scope string, ok bool), error) {
	switch s.Method {
	case bySecretPost:
		return fromForm, nil
	case bySecretJSON:
		return fromJSON, nil
	case bySecretBasic:
		return fromBasic, nil
	case byPrivateKey:
		return s.ClientKey.floorAssertion(keyring.ES256, func(c *assertionClaims) (string, bool) {
			return c.Subject, c.Issuer == c.Subject && c.ID != ""
		})
	case byServiceAccount:
		clientID, _ := credentialOf(0)
		return s.ClusterKey.floorAssertion(keyring.RS256, func(c *assertionClaims) (string, bool) {
			return clientID, c.Issuer == clusterIssuer && c.Kubernetes.ServiceAccount.UID == accountUID
		})
	default:
		return nil, fmt.Errorf("the floor knows no method %q", s.Method)
	}
}

func fromForm(r *http.Request) (clientID, scope string, ok bool) {
	if err := r.ParseForm(); err != nil {
		return "", "", false
	}
	clientID = r.PostForm.Get("client_id")
	return clientID, r.PostForm.Get("scope"), rightSecret(clientID, r.PostForm.Get("client_secret"))
}

func fromJSON(r *http.Request) (clientID, scope string, ok bool) {
	var body struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		Scope        string `json:"scope"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return "", "", false
	}
	return body.ClientID, body.Scope, rightSecret(body.ClientID, body.ClientSecret)
}

func fromBasic(r *http.Request) (clientID, scope string, ok bool) {
	if err := r.ParseForm(); err != nil {
		return "", "", false
	}
	clientID, secret, ok := r.BasicAuth()
	return clientID, r.PostForm.Get("scope"), ok && rightSecret(clientID, secret)
}

var floorID, floorDigest = func() (string, [sha256.Size]byte) {
	clientID, secret := credentialOf(0)
	return clientID, sha256.Sum256([]byte(secret))
}()

func rightSecret(clientID, secret string) bool {
	got := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(got[:], floorDigest[:]) == 1 && clientID == floorID
}

// assertionClaims are those of both kinds of assertions.
type assertionClaims struct {
	jwt.RegisteredClaims
	Kubernetes struct {
		ServiceAccount struct {
			UID string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// floorAssertion checks an assertion with a key; whose returns the client that it is of.
func (k *publicKey) floorAssertion(a keyring.Algorithm, whose func(*assertionClaims) (string, bool)) (func(*http.Request) (clientID, scope string, ok bool), error) {
	public, err := x509.ParsePKIXPublicKey(k.DER)
	if err != nil {
		return nil, err
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{string(a)}), jwt.WithAudience(issuerURL), jwt.WithExpirationRequired())
	return func(r *http.Request) (clientID, scope string, ok bool) {
		if err := r.ParseForm(); err != nil {
			return "", "", false
		}
		var claims assertionClaims
		if _, err := parser.ParseWithClaims(r.PostForm.Get("client_assertion"), &claims, func(*jwt.Token) (any, error) { return public, nil }); err != nil {
			return "", "", false
		}
		clientID, ok = whose(&claims)
		return clientID, r.PostForm.Get("scope"), ok
	}, nil
}
