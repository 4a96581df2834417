// Package verifygrpc verifies the bearer tokens of gRPC calls. It is beside the package
// verify, so that services without gRPC don't compile it.
//
//	server := grpc.NewServer(
//		grpc.UnaryInterceptor(verifygrpc.UnaryServerInterceptor(verifier, rules...)),
//		grpc.StreamInterceptor(verifygrpc.StreamServerInterceptor(verifier, rules...)),
//	)
//
// Every method needs a valid token, unless a rule makes it public. A stream's token is
// verified when it begins: a handler of long streams has to look at the claims' ExpiresAt.
package verifygrpc

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/m2m-operator/m2m-operator/verify"
)

// Authenticator verifies a token; a [*verify.Verifier] is one.
type Authenticator interface {
	AuthenticateToken(ctx context.Context, token string, required ...verify.Requirement) (*verify.Claims, error)
}

// Rule says what methods require.
type Rule func(*policy)

type policy struct {
	everywhere []verify.Requirement
	methods    map[string][]verify.Requirement
	public     []string
}

// Require requires this of every method that is not public.
func Require(required ...verify.Requirement) Rule {
	return func(p *policy) { p.everywhere = append(p.everywhere, required...) }
}

// Method requires this of one method besides, by its full name: `/package.Service/Method`.
func Method(fullMethod string, required ...verify.Requirement) Rule {
	return func(p *policy) { p.methods[fullMethod] = append(p.methods[fullMethod], required...) }
}

// Public lets methods be called without a token, by their full names, such as
// `/grpc.health.v1.Health/Check`.
func Public(fullMethods ...string) Rule {
	return func(p *policy) { p.public = append(p.public, fullMethods...) }
}

func newPolicy(rules []Rule) *policy {
	p := &policy{methods: map[string][]verify.Requirement{}}
	for _, rule := range rules {
		rule(p)
	}
	return p
}

// UnaryServerInterceptor verifies the token of each call; [verify.FromContext] returns
// its claims. Refusals are Unauthenticated, PermissionDenied or Unavailable.
func UnaryServerInterceptor(a Authenticator, rules ...Rule) grpc.UnaryServerInterceptor {
	p := newPolicy(rules)
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, err := p.authenticate(ctx, a, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return next(ctx, request)
	}
}

// StreamServerInterceptor is [UnaryServerInterceptor] for streams.
func StreamServerInterceptor(a Authenticator, rules ...Rule) grpc.StreamServerInterceptor {
	p := newPolicy(rules)
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx, err := p.authenticate(stream.Context(), a, info.FullMethod)
		if err != nil {
			return err
		}
		return next(server, &authenticatedStream{stream, ctx})
	}
}

// authenticatedStream has the claims in its context.
type authenticatedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *authenticatedStream) Context() context.Context { return s.ctx }

func (p *policy) authenticate(ctx context.Context, a Authenticator, method string) (context.Context, error) {
	if slices.Contains(p.public, method) {
		return ctx, nil
	}
	token, err := verify.ParseBearer(metadata.ValueFromIncomingContext(ctx, "authorization"))
	if err != nil {
		return nil, toStatus(err)
	}
	claims, err := a.AuthenticateToken(ctx, token, slices.Concat(p.everywhere, p.methods[method])...)
	if err != nil {
		return nil, toStatus(err)
	}
	return verify.NewContext(ctx, claims), nil
}

// toStatus says as much as the middleware for HTTP says.
func toStatus(err error) error {
	switch {
	case errors.Is(err, verify.ErrMissingToken):
		return status.Error(codes.Unauthenticated, "send a bearer token in the metadata authorization")
	case errors.Is(err, verify.ErrInvalidRequest):
		return status.Error(codes.Unauthenticated, "the metadata authorization is malformed")
	case errors.Is(err, verify.ErrTokenExpired):
		return status.Error(codes.Unauthenticated, "the token has expired")
	case errors.Is(err, verify.ErrTokenRevoked):
		return status.Error(codes.Unauthenticated, "the token has been revoked")
	case errors.Is(err, verify.ErrInvalidToken):
		return status.Error(codes.Unauthenticated, "the token is not valid here")
	case errors.Is(err, verify.ErrInsufficientScope):
		return status.Error(codes.PermissionDenied, "the token doesn't have the required scope")
	case errors.Is(err, verify.ErrKeysUnavailable), errors.Is(err, verify.ErrRevocationUnavailable):
		return status.Error(codes.Unavailable, "tokens can't be verified now")
	default:
		return status.Error(codes.Internal, "the token could not be verified")
	}
}
