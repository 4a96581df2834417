// Package verify checks access tokens of an m2m-operator, or of another issuer of the
// same two profiles, in the service that is called: locally, with the issuer's public
// keys, which are fetched in the background.
//
//	verifier, err := verify.New("https://auth.example.com", "orders")
//	if err != nil {
//		return err
//	}
//	defer verifier.Close()
//	http.Handle("GET /orders", verifier.Middleware(verify.RequiredScopes("read:orders"))(orders))
//
// A token is accepted until it expires, whatever has become of its client since: keys
// alone don't tell. Where that is too long, use [WithIntrospection] or [WithDenyList].
//
// What a token may be is narrow on purpose: a compact JWS (RFC 7515 section 3.1) whose
// header has `alg`, `kid` and `typ` and nothing else, signed with an algorithm of an
// explicit list by the key that has this id and this algorithm, without a name that
// comes twice, for this issuer and this audience, with an expiry. Everything else is refused.
//
// Interceptors for gRPC are in the package verifygrpc beside this one.
package verify
