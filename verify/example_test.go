package verify_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/m2m-operator/m2m-operator/verify"
)

// The examples' issuer. Its key is public, and so are its tokens.
const (
	exampleIssuer   = "https://auth.example.com"
	exampleAudience = "project-live-1"
)

var exampleKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func exampleJWKS() []byte {
	x := base64.RawURLEncoding.EncodeToString(exampleKey.Public().(ed25519.PublicKey))
	return []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"1","x":"` + x + `"}]}`)
}

func exampleToken(scope string) string {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": exampleIssuer, "sub": "m2m-client-live-1", "aud": []string{exampleAudience}, "iat": now.Unix(),
		"nbf": now.Unix() - 60, "exp": now.Unix() + 3600, "scope": scope, "tier": "gold",
	})
	token.Header["kid"] = "1"
	text, err := token.SignedString(exampleKey)
	if err != nil {
		panic(err)
	}
	return text
}

func exampleVerifier(options ...verify.Option) *verify.Verifier {
	v, err := verify.New(exampleIssuer, exampleAudience, append([]verify.Option{
		verify.WithJWKS(exampleJWKS()), verify.WithAlgorithms(verify.EdDSA),
	}, options...)...)
	if err != nil {
		panic(err)
	}
	return v
}

func ExampleNew() {
	// The keys are found in the metadata of the issuer, and fetched in the background.
	verifier, err := verify.New("https://auth.example.com", "project-live-1",
		verify.WithAlgorithms(verify.ES256, verify.RS256),
		verify.WithLeeway(0),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer verifier.Close()

	_, err = verify.New("https://auth.example.com", "")
	fmt.Println(err)
	// Output: making a verifier: the audience is empty: say which audience this service is, or the project id
}

func ExampleVerifier_AuthenticateToken() {
	verifier := exampleVerifier()
	defer verifier.Close()
	token := exampleToken("read:* write:orders")

	claims, err := verifier.AuthenticateToken(context.Background(), token, verify.RequiredScopes("read:orders"))
	fmt.Println(claims.ClientID, claims.Scopes, err)

	var tier string
	fmt.Println(claims.DecodeCustom("tier", &tier), tier)

	_, err = verifier.AuthenticateToken(context.Background(), token, verify.RequiredScopes("admin"))
	fmt.Println(err, errors.Is(err, verify.ErrInsufficientScope))
	// Output:
	// m2m-client-live-1 [read:* write:orders] <nil>
	// <nil> gold
	// insufficient scope: this needs "admin" true
}

func ExampleVerifier_Middleware() {
	verifier := exampleVerifier()
	defer verifier.Close()
	mux := http.NewServeMux()
	mux.Handle("GET /orders", verifier.Middleware(verify.RequiredScopes("read:orders"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := verify.FromContext(r.Context())
		_, _ = fmt.Fprintln(w, "orders for", claims.ClientID)
	})))

	for _, scope := range []string{"read:orders", "write:orders"} {
		r := httptest.NewRequest(http.MethodGet, "/orders", nil)
		r.Header.Set("Authorization", "Bearer "+exampleToken(scope))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 200 orders for m2m-client-live-1
	// 403 {"error":"insufficient_scope","error_description":"the token doesn't have the required scope"}
}

func ExampleMemoryDenyList() {
	var denied verify.MemoryDenyList
	verifier := exampleVerifier(verify.WithDenyList(&denied))
	defer verifier.Close()
	token := exampleToken("read:orders")

	_, err := verifier.AuthenticateToken(context.Background(), token)
	fmt.Println(err)
	denied.DenyClient("m2m-client-live-1", time.Now().Add(time.Second))
	_, err = verifier.AuthenticateToken(context.Background(), token)
	fmt.Println(err)
	// Output:
	// <nil>
	// invalid token: it has been revoked
}

func ExampleWithIntrospection() {
	introspection := verify.Introspection{
		URL: "https://auth.example.com/v1/public/project-live-1/oauth2/introspect",
		Credential: func() (string, string, error) { // the mounted Secret, which may have been rotated
			id, errID := os.ReadFile("/var/run/m2m/client_id")
			secret, errSecret := os.ReadFile("/var/run/m2m/client_secret")
			return string(id), string(secret), errors.Join(errID, errSecret)
		},
		MaxAge: 10 * time.Second, // a revoked token may be accepted for so long
	}
	verifier := exampleVerifier(verify.WithIntrospection(introspection))
	defer verifier.Close()

	_, err := verifier.AuthenticateToken(context.Background(), exampleToken("read:orders"))
	fmt.Println(errors.Is(err, verify.ErrRevocationUnavailable)) // there is no such file here
	// Output: true
}
