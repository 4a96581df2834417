package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"sync/atomic"
)

// VerifyAlike checks a token's signature as [KeySet.Verify] does, and takes as long
// whatever the keys are: it costs one check, of the algorithm and of the size that the
// token's sender has chosen. Where no key is for it, that one is with a decoy. The error
// is for the log alone, unless the algorithm is one that is never taken.
func (s KeySet) VerifyAlike(t *Token) error {
	m, known := methods[t.Algorithm]
	if !known {
		return ErrAlgorithm
	}
	k, unfit := s.choose(t, m.kind)
	public, fits := standIn(m.kind, k.public, t.signature)
	verified := m.method.Verify(t.signed, t.signature, public) == nil
	switch {
	case unfit != nil:
		return unfit
	case !fits || !verified:
		return ErrSignature
	}
	return nil
}

// choose returns the key that a token is checked with, or why there is none.
func (s KeySet) choose(t *Token, kind string) (key, error) {
	k, ok := s.find(t.KeyID)
	switch {
	case !ok:
		return key{}, ErrUnknownKey
	case k.kind != kind, k.algorithm != "" && k.algorithm != t.Algorithm:
		return key{}, ErrAlgorithm
	}
	return k, nil
}

// standIn returns the key itself, or a decoy where there is none, or where a signature
// could be refused without the work: RSA's are numbers below the key's, of its size.
func standIn(kind string, public crypto.PublicKey, signature []byte) (_ crypto.PublicKey, fits bool) {
	if kind != "RSA" {
		if public == nil {
			return decoys[kind], false
		}
		return public, true
	}
	number := new(big.Int).SetBytes(signature)
	if k, ok := public.(*rsa.PublicKey); ok && k.Size() == len(signature) && number.Cmp(k.N) < 0 {
		return k, true
	}
	return rsaDecoy(len(signature)), false
}

// decoys are fixed keys, by their kind. What they verify is refused all the same, so it
// doesn't matter who can sign with them.
var decoys = map[string]crypto.PublicKey{
	"EC P-256":    ecDecoy(elliptic.P256()),
	"EC P-384":    ecDecoy(elliptic.P384()),
	"EC P-521":    ecDecoy(elliptic.P521()),
	"OKP Ed25519": ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public(),
}

// ecDecoy is a point like any other: that of the number whose bytes are all 1.
func ecDecoy(curve elliptic.Curve) crypto.PublicKey {
	size := (curve.Params().BitSize + 7) / 8
	scalar := bytes.Repeat([]byte{1}, size)
	scalar[0] = 0 // below the order of each curve
	k, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		panic("jws: a decoy can't be made: " + err.Error())
	}
	return k.Public()
}

// Sizes of RSA keys in bytes.
const (
	minRSABytes = minRSABits / 8
	maxRSABytes = maxRSABits / 8
)

// rsaDecoys are made when they are first needed.
var rsaDecoys [maxRSABytes + 1]atomic.Pointer[rsa.PublicKey]

// rsaDecoy is a modulus of a signature's size whose bits are all 1: no signature but the
// one with the same bits is too large for it. Where no key has such a size, no key does
// any work.
func rsaDecoy(size int) *rsa.PublicKey {
	if size < minRSABytes || size > maxRSABytes {
		size = minRSABytes
	}
	if k := rsaDecoys[size].Load(); k != nil {
		return k
	}
	k := &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, size)), E: 65537}
	rsaDecoys[size].Store(k)
	return k
}
