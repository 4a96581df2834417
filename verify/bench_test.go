package verify

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The two are to be compared: go test -run '^$' -bench . -count 10, and benchstat.

func BenchmarkAuthenticate(b *testing.B) {
	v := newVerifier(b)
	benchmark(b, func(token string) error { return authenticate(v, token) })
}

// BenchmarkParse is what golang-jwt takes for the same checks.
func BenchmarkParse(b *testing.B) {
	parser := jwt.NewParser(jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
		jwt.WithValidMethods([]string{"ES256", "EdDSA", "RS256"}), jwt.WithTimeFunc(func() time.Time { return now }))
	key := func(t *jwt.Token) (any, error) { return testKeys()[Algorithm(t.Method.Alg())].private.Public(), nil }
	benchmark(b, func(token string) error {
		_, err := parser.Parse(token, key)
		return err
	})
}

func benchmark(b *testing.B, verify func(token string) error) {
	for _, a := range []Algorithm{ES256, EdDSA, RS256} {
		token := testKeys()[a].good()
		b.Run(string(a), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				check(b, verify(token))
			}
		})
	}
}
