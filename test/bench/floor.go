package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// floorClaims are those of the product's tokens.
type floorClaims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// newFloor is the least that a token server in Go can be when it is put together
// from net/http and golang-jwt: it parses the form, compares one SHA-256 and signs.
// No lookup, no scopes, no audit, no metrics, no timeouts.
func newFloor() (http.Handler, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	clientID, secret := credentialOf(0)
	want := sha256.Sum256([]byte(secret))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, "bad form", http.StatusBadRequest)
			return
		}
		got := sha256.Sum256([]byte(r.PostForm.Get("client_secret")))
		if r.PostForm.Get("client_id") != clientID || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		now := time.Now()
		token := jwt.NewWithClaims(jwt.SigningMethodES256, floorClaims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer:    "https://auth.example.com",
				Subject:   clientID,
				Audience:  jwt.ClaimStrings{projectID},
				IssuedAt:  jwt.NewNumericDate(now),
				NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)),
				ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
			},
			Scope: r.PostForm.Get("scope"),
		})
		token.Header["kid"] = "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
		signed, err := token.SignedString(key)
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
