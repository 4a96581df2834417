package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/internal/keyring"
)

// What the one issuer of the benchmark is called, and the cluster.
const (
	projectID     = "project-live-00000000-0000-4000-8000-000000000000"
	issuerURL     = "https://auth.example.com"
	clusterIssuer = "https://kubernetes.default.svc.cluster.local"
)

// The ServiceAccount that authenticates as the first client.
const (
	accountNamespace = "default"
	accountName      = "billing"
	accountUID       = "11111111-0000-4000-8000-000000000000"
)

// credentialOf gives the n-th client, the same in all processes.
func credentialOf(n int) (clientID, secret string) {
	sum := sha256.Sum256([]byte("client " + strconv.Itoa(n)))
	digits := hex.EncodeToString(sum[:])
	return "m2m-client-live-" + digits[:8] + "-" + digits[8:12] + "-4" + digits[13:16] + "-8" + digits[17:20] + "-" + digits[20:32],
		"S" + digits[:42]
}

// Names of the methods.
const (
	bySecretPost     = "client_secret_post"
	bySecretJSON     = "secret in JSON"
	bySecretBasic    = "client_secret_basic"
	byServiceAccount = "ServiceAccount token"
	byPrivateKey     = "private_key_jwt"
)

// method is a way to authenticate.
type method struct {
	name string
	// request returns a token request of the n-th client.
	request func(n int) (request, error)
}

// request is what is different in a token request.
type request struct{ contentType, authorization, body string }

const (
	form  = "application/x-www-form-urlencoded"
	asked = "grant_type=client_credentials&scope=read%3Asettings"
)

var (
	secretPost = method{bySecretPost, func(n int) (request, error) {
		clientID, secret := credentialOf(n)
		return secretRequest(clientID, secret), nil
	}}
	secretJSON = method{bySecretJSON, func(n int) (request, error) {
		clientID, secret := credentialOf(n)
		body := `{"grant_type":"client_credentials","client_id":"` + clientID + `","client_secret":"` + secret + `","scope":"read:settings"}`
		return request{contentType: "application/json", body: body}, nil
	}}
	secretBasic = method{bySecretBasic, func(n int) (request, error) {
		clientID, secret := credentialOf(n)
		return request{form, "Basic " + base64.StdEncoding.EncodeToString([]byte(clientID+":"+secret)), asked}, nil
	}}
)

func secretRequest(clientID, secret string) request {
	return request{contentType: form, body: asked + "&client_id=" + clientID + "&client_secret=" + secret}
}

func assertionRequest(assertion string) request {
	return request{contentType: form, body: asked + "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=" + assertion}
}

// privateKeyJWT signs an assertion for each request: a server takes each once.
func privateKeyJWT(k keyring.Key) method {
	sign := newSigner(k)
	return method{byPrivateKey, func(n int) (request, error) {
		clientID, _ := credentialOf(n)
		now := time.Now()
		assertion, err := sign(jwt.RegisteredClaims{
			Issuer:    clientID,
			Subject:   clientID,
			Audience:  jwt.ClaimStrings{issuerURL},
			ID:        rand.Text(),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)),
		})
		return assertionRequest(assertion), err
	}}
}

// serviceAccountToken presents one projected token again and again, as pods do.
func serviceAccountToken(k keyring.Key) (method, error) {
	now := time.Now().Unix()
	text, err := newSigner(k)(jwt.MapClaims{
		"aud": []string{issuerURL},
		"exp": now + 3607,
		"iat": now,
		"iss": clusterIssuer,
		"jti": "22222222-0000-4000-8000-000000000000",
		"kubernetes.io": map[string]any{
			"namespace":      accountNamespace,
			"node":           map[string]string{"name": "node-1", "uid": "33333333-0000-4000-8000-000000000000"},
			"pod":            map[string]string{"name": "billing-6f7d8c9b5-x2x4z", "uid": "44444444-0000-4000-8000-000000000000"},
			"serviceaccount": map[string]string{"name": accountName, "uid": accountUID},
		},
		"nbf": now,
		"sub": "system:serviceaccount:" + accountNamespace + ":" + accountName,
	})
	return method{byServiceAccount, func(int) (request, error) { return assertionRequest(text), nil }}, err
}

// newSigner returns what signs with a key as others do.
func newSigner(k keyring.Key) func(jwt.Claims) (string, error) {
	algorithm := jwt.GetSigningMethod(string(k.Algorithm))
	return func(claims jwt.Claims) (string, error) {
		t := jwt.NewWithClaims(algorithm, claims)
		t.Header["kid"] = k.ID
		return t.SignedString(k.Signer)
	}
}

// publicKey is the public half of a key, in the forms that the servers read.
type publicKey struct {
	DER  []byte          // PKIX
	JWKS json.RawMessage // a set of this one
}

// newKey makes a key that the load generator signs with.
func newKey(a keyring.Algorithm) (keyring.Key, *publicKey, error) {
	k, err := keyring.Generate(rand.Reader, a, time.Now())
	if err != nil {
		return k, nil, err
	}
	var public publicKey
	if public.DER, err = x509.MarshalPKIXPublicKey(k.Signer.Public()); err != nil {
		return k, nil, err
	}
	public.JWKS, err = keyring.MarshalJWKS([]keyring.Key{k})
	return k, &public, err
}
