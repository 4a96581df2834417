package verifygrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/m2m-operator/m2m-operator/verify"
	"github.com/m2m-operator/m2m-operator/verify/verifygrpc"
)

const (
	issuer   = "https://auth.example.com"
	audience = "orders"
	client   = "m2m-client-live-1"
)

// The methods of the service in these tests.
const (
	checkMethod = "/grpc.health.v1.Health/Check"
	watchMethod = "/grpc.health.v1.Health/Watch"
)

// newIssuer returns a verifier, and what makes tokens for it.
func newIssuer(t *testing.T) (*verify.Verifier, func(scope string, lifetime time.Duration) string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	key := jose.JSONWebKey{Key: private, KeyID: "1", Algorithm: "ES256", Use: "sig"}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	check(t, err)
	v, err := verify.New(issuer, audience, verify.WithJWKS(set))
	check(t, err)
	t.Cleanup(v.Close)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	check(t, err)
	return v, func(scope string, lifetime time.Duration) string {
		now := time.Now()
		claims, err := json.Marshal(map[string]any{
			"iss": issuer, "sub": client, "aud": []string{audience}, "iat": now.Unix(), "nbf": now.Unix() - 60,
			"exp": now.Add(lifetime).Unix(), "scope": scope,
		})
		check(t, err)
		jws, err := signer.Sign(claims)
		check(t, err)
		token, err := jws.CompactSerialize()
		check(t, err)
		return token
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve runs a server with the interceptors, and returns a client and who called last.
func serve(t *testing.T, v *verify.Verifier, rules ...verifygrpc.Rule) (c healthpb.HealthClient, caller func() string) {
	callers := make(chan string, 1)
	note := func(ctx context.Context) {
		if claims, ok := verify.FromContext(ctx); ok {
			callers <- claims.ClientID
		} else {
			callers <- "nobody"
		}
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(verifygrpc.UnaryServerInterceptor(v, rules...), func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			note(ctx)
			return next(ctx, request)
		}),
		grpc.ChainStreamInterceptor(verifygrpc.StreamServerInterceptor(v, rules...), func(server any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			note(s.Context())
			return next(server, s)
		}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	check(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return healthpb.NewHealthClient(connection), func() string {
		select {
		case who := <-callers:
			return who
		default:
			return ""
		}
	}
}

// TestInterceptors: calls and streams need a token that is valid and has the scopes.
func TestInterceptors(t *testing.T) {
	v, issue := newIssuer(t)
	closed, _ := newIssuer(t)
	closed.Close()
	good := "Bearer " + issue("read:* write:orders", time.Hour)
	require := []verifygrpc.Rule{
		verifygrpc.Require(verify.RequiredScopes("read:orders")), verifygrpc.Method(checkMethod, verify.RequiredScopes("write:orders")), verifygrpc.Method(watchMethod, verify.RequiredScopes("write:orders")),
	}
	for name, c := range map[string]struct {
		v      *verify.Verifier
		rules  []verifygrpc.Rule
		values []string
		want   codes.Code
		caller string
	}{
		"good":            {v, require, []string{good}, codes.OK, client},
		"no rules":        {v, nil, nil, codes.Unauthenticated, ""},
		"none":            {v, require, nil, codes.Unauthenticated, ""},
		"two":             {v, require, []string{good, good}, codes.Unauthenticated, ""},
		"Basic":           {v, require, []string{"Basic YTpi"}, codes.Unauthenticated, ""},
		"forged":          {v, require, []string{good[:len(good)-4] + "AAAA"}, codes.Unauthenticated, ""},
		"expired":         {v, require, []string{"Bearer " + issue("read:*", -time.Minute)}, codes.Unauthenticated, ""},
		"lacks one":       {v, require, []string{"Bearer " + issue("read:*", time.Hour)}, codes.PermissionDenied, ""},
		"lacks the other": {v, require, []string{"Bearer " + issue("write:orders", time.Hour)}, codes.PermissionDenied, ""},
		"no keys":         {closed, require, []string{good}, codes.Unavailable, ""},
		"public":          {v, []verifygrpc.Rule{verifygrpc.Public(checkMethod, watchMethod), require[0]}, nil, codes.OK, "nobody"},
		"other is public": {v, []verifygrpc.Rule{verifygrpc.Public("/grpc.health.v1.Health/List")}, nil, codes.Unauthenticated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c1, caller := serve(t, c.v, c.rules...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for _, value := range c.values {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
			}
			_, err := c1.Check(ctx, &healthpb.HealthCheckRequest{})
			if who := caller(); status.Code(err) != c.want || who != c.caller {
				t.Errorf("call: %v, by %q", err, who)
			}
			stream, err := c1.Watch(ctx, &healthpb.HealthCheckRequest{})
			check(t, err)
			_, err = stream.Recv()
			if who := caller(); status.Code(err) != c.want || who != c.caller {
				t.Errorf("stream: %v, by %q", err, who)
			}
		})
	}
}

func Example() {
	verifier, err := verify.New("https://auth.example.com", "orders")
	if err != nil {
		panic(err)
	}
	defer verifier.Close()
	rules := []verifygrpc.Rule{
		verifygrpc.Require(verify.RequiredScopes("read:orders")),
		verifygrpc.Method("/shop.Orders/Cancel", verify.RequiredScopes("write:orders")),
		verifygrpc.Public("/grpc.health.v1.Health/Check"),
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(verifygrpc.UnaryServerInterceptor(verifier, rules...)),
		grpc.StreamInterceptor(verifygrpc.StreamServerInterceptor(verifier, rules...)),
	)
	defer server.Stop()
}
