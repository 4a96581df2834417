package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// changed is a public key as JSON with other members; nil removes one.
func changed(t *testing.T, k *signingKey, changes map[string]any) string {
	text, err := json.Marshal(k.jwk())
	check(t, err)
	members := map[string]any{}
	check(t, json.Unmarshal(text, &members))
	for name, value := range changes {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	text, err = json.Marshal(members)
	check(t, err)
	return string(text)
}

// TestKeys: which keys of a set are used.
func TestKeys(t *testing.T) {
	type changes = map[string]any
	ec, rs, ed := testKeys()[ES256], testKeys()[RS256], testKeys()[EdDSA]
	private, err := json.Marshal(jose.JSONWebKey{Key: ec.private, KeyID: ec.id, Algorithm: "ES256", Use: "sig"})
	check(t, err)
	privateRSA, err := json.Marshal(jose.JSONWebKey{Key: rs.private, KeyID: rs.id, Algorithm: "RS256", Use: "sig"})
	check(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // refused below
	check(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	good := changed(t, ec, nil)
	for name, c := range map[string]struct {
		set  string
		used int
	}{
		"good":                   {good, 1},
		"no use":                 {changed(t, ec, changes{"use": nil}), 1},
		"key_ops":                {changed(t, ec, changes{"key_ops": []string{"verify"}}), 1},
		"certificates, URLs":     {changed(t, ec, changes{"x5c": []string{"MIIB"}, "x5u": "https://evil.example.com"}), 1},
		"the same twice":         {good + "," + good, 1},
		"beside unknown kinds":   {`{"kty":"AKP","kid":"a","alg":"ML-DSA-44"},1,null,[],"x",{},` + good, 1},
		"one id, two keys":       {good + "," + changed(t, ed, changes{"kid": ec.id}), 0},
		"one id, three keys":     {good + "," + changed(t, ed, changes{"kid": ec.id}) + "," + good, 0},
		"one id, two algorithms": {changed(t, rs, nil) + "," + changed(t, rs, changes{"alg": "PS256"}), 0},
		"for encryption":         {changed(t, ec, changes{"use": "enc"}), 0},
		"use is no string":       {changed(t, ec, changes{"use": []string{"sig"}}), 0},
		"ops without verify":     {changed(t, ec, changes{"key_ops": []string{"deriveKey"}}), 0},
		"no kid":                 {changed(t, ec, changes{"kid": nil}), 0},
		"kid number":             {changed(t, ec, changes{"kid": 1}), 0},
		"huge kid":               {changed(t, ec, changes{"kid": strings.Repeat("k", 300)}), 0},
		"no alg":                 {changed(t, ec, changes{"alg": nil}), 0},
		"alg none":               {changed(t, ec, changes{"alg": "none"}), 0},
		"alg HS256":              {changed(t, ec, changes{"alg": "HS256"}), 0},
		"alg of another type":    {changed(t, ec, changes{"alg": "RS256"}), 0},
		"alg of another curve":   {changed(t, ec, changes{"alg": "ES384"}), 0},
		"curve of another key":   {changed(t, ec, changes{"crv": "P-384", "alg": "ES384"}), 0},
		"point off the curve":    {changed(t, ec, changes{"x": encoding.EncodeToString(make([]byte, 32))}), 0},
		"short coordinate":       {changed(t, ec, changes{"x": "AQ"}), 0},
		"short Ed25519 key":      {changed(t, ed, changes{"x": "AQ"}), 0},
		"padded coordinate":      {changed(t, ec, changes{"x": encoding.EncodeToString(make([]byte, 32)) + "="}), 0},
		"symmetric":              {`{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0"}`, 0},
		"symmetric beside":       {changed(t, ec, changes{"k": "c2VjcmV0"}), 0},
		"private":                {string(private), 0},
		"private RSA":            {string(privateRSA), 0},
		"private, null":          {changed(t, ec, changes{"d": json.RawMessage("null")}), 0},
		"RSA of 1024 bits":       {changed(t, &signingKey{RS256, "weak", weak}, nil), 0},
		"RSA of 10000 bits":      {changed(t, rs, changes{"n": encoding.EncodeToString(bytes.Repeat([]byte{0xff}, 1250))}), 0},
		"RSA exponent 1":         {changed(t, rs, changes{"e": "AQ"}), 0},
		"RSA even exponent":      {changed(t, rs, changes{"e": "Ag"}), 0},
		"RSA huge exponent":      {changed(t, rs, changes{"e": "AQAAAAE"}), 0},
		"RSA without exponent":   {changed(t, rs, changes{"e": ""}), 0},
		"member twice":           {strings.Replace(good, "{", `{"alg":"RS256",`, 1), 0},
		"P-384 as ES256":         {changed(t, &signingKey{ES256, "x", p384}, nil), 0},
		"none":                   {"", 0},
	} {
		keys, err := parseKeySet([]byte(`{"keys":[` + c.set + `]}`))
		if err != nil || len(keys) != c.used {
			t.Errorf("%s: %d keys are used, %v", name, len(keys), err)
		}
	}
}

// TestKeySets: documents that are refused as a whole.
func TestKeySets(t *testing.T) {
	good := changed(t, testKeys()[ES256], nil)
	var many []string
	for n := range 5000 {
		many = append(many, changed(t, testKeys()[EdDSA], map[string]any{"kid": fmt.Sprint(n)}))
	}
	for name, text := range map[string]string{
		"empty": "", "null": "null", "array": "[" + good + "]", "no keys": "{}", "keys object": `{"keys":{}}`, "keys null": `{"keys":null}`, "keys twice": `{"keys":[],"keys":[` + good + `]}`,
		"cut off": `{"keys":[` + good, "HTML": "<html>", "thousands": `{"keys":[` + strings.Join(many, ",") + `]}`, "deep": `{"keys":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`,
		"invalid UTF-8": "{\"keys\":[],\"x\":\"\xff\"}",
	} {
		if keys, err := parseKeySet([]byte(text)); err == nil {
			t.Errorf("%s: %d keys", name, len(keys))
		}
	}
}
