package sdk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// Stytch's SDK for Go, as its release 17 sends and reads. It can't be run from here: its
// module isn't where modules of this project come from.

// goSDK makes its calls with the keys that it fetched when it was constructed.
type goSDK struct {
	project
	keys map[string]jwk
}

// newGoSDK is its constructor, which fails if it can't fetch keys: it must be able to
// read one at least.
func newGoSDK(t *testing.T, p project, jwksPath string) goSDK {
	t.Helper()
	sdk := goSDK{p, map[string]jwk{}}
	for _, k := range p.keys(t, jwksPath) {
		if _, err := k.public(); err == nil {
			sdk.keys[k.KeyID] = k
		}
	}
	if len(sdk.keys) == 0 {
		t.Fatalf("it can read no key of %s", jwksPath)
	}
	return sdk
}

// What it decodes answers into: one that lacks a field is zero there, and one of another
// type fails.
type (
	goClient struct {
		ClientID                 string         `json:"client_id"`
		ClientSecret             string         `json:"client_secret"`
		NextClientSecret         string         `json:"next_client_secret"`
		ClientName               string         `json:"client_name"`
		ClientDescription        string         `json:"client_description"`
		Status                   string         `json:"status"`
		Scopes                   []string       `json:"scopes"`
		ClientSecretLastFour     string         `json:"client_secret_last_four"`
		NextClientSecretLastFour string         `json:"next_client_secret_last_four"`
		TrustedMetadata          map[string]any `json:"trusted_metadata"`
	}
	goAnswer struct {
		StatusCode      int32      `json:"status_code"`
		RequestID       string     `json:"request_id"`
		ClientID        string     `json:"client_id"`
		M2MClient       goClient   `json:"m2m_client"`
		M2MClients      []goClient `json:"m2m_clients"`
		ResultsMetadata struct {
			Total      int32  `json:"total"`
			NextCursor string `json:"next_cursor"`
		} `json:"results_metadata"`
	}
	goToken struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}
	goError struct {
		StatusCode   int    `json:"status_code"`
		RequestID    string `json:"request_id"`
		ErrorType    string `json:"error_type"`
		ErrorMessage string `json:"error_message"`
		ErrorURL     string `json:"error_url"`
	}
	goOAuth2Error struct {
		StatusCode   int    `json:"status_code"`
		RequestID    string `json:"request_id"`
		ErrorType    string `json:"error"`
		ErrorMessage string `json:"error_description"`
		ErrorURL     string `json:"error_uri"`
	}
)

// do sends a request, and decodes what comes into one of two: only 200 and 201 are
// successes to it.
func (g goSDK) do(t *testing.T, request *http.Request, success, failure any) int {
	t.Helper()
	request.Header.Set("User-Agent", "Stytch Go v17.0.0")
	response, err := web.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	into := failure
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusCreated {
		into = success
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("HTTP %d: %v\n%s", response.StatusCode, err, body)
	}
	return response.StatusCode
}

// manage sends a call of the management API. Bodies leave out what is empty, and name the
// client again; a GET or DELETE has none, but the header all the same.
func (g goSDK) manage(t *testing.T, method, path string, body any) (goAnswer, goError) {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), method, g.url+"/v1/m2m/clients"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(g.id, g.secret)
	request.Header.Set("Content-Type", "application/json")
	var answer goAnswer
	var failure goError
	switch status := g.do(t, request, &answer, &failure); {
	case status == http.StatusOK && (answer.StatusCode != http.StatusOK || answer.RequestID == ""):
		t.Errorf("%s %s: %+v", method, path, answer)
	case status != http.StatusOK && (failure.StatusCode != status || failure.RequestID == "" || failure.ErrorType == "" || failure.ErrorMessage == ""):
		t.Errorf("%s %s: HTTP %d: %+v", method, path, status, failure)
	}
	return answer, failure
}

// must is for calls that succeed.
func (g goSDK) must(t *testing.T, method, path string, body any) goAnswer {
	t.Helper()
	answer, failure := g.manage(t, method, path, body)
	if failure.StatusCode != 0 {
		t.Fatalf("%s %s: %+v", method, path, failure)
	}
	return answer
}

// token asks for one by a form, without a header that authenticates.
func (g goSDK) token(t *testing.T, id, secret string, scopes ...string) (goToken, goOAuth2Error) {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/v1/public/"+g.id+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token goToken
	var failure goOAuth2Error
	g.do(t, request, &token, &failure)
	return token, failure
}

// accepts checks that a secret gets a token, and returns it.
func (g goSDK) accepts(t *testing.T, id, secret string, scopes ...string) string {
	t.Helper()
	token, failure := g.token(t, id, secret, scopes...)
	if token.AccessToken == "" || token.TokenType != "bearer" || token.ExpiresIn != 3600 {
		t.Fatalf("%+v, %+v", token, failure)
	}
	return token.AccessToken
}

// refuses checks that a token request fails with all that an error has.
func (g goSDK) refuses(t *testing.T, kind, id, secret string, scopes ...string) {
	t.Helper()
	_, failure := g.token(t, id, secret, scopes...)
	if failure.ErrorType != kind || failure.ErrorMessage == "" || failure.RequestID == "" || failure.StatusCode == 0 {
		t.Errorf("%+v, want %s", failure, kind)
	}
}

// keyfunc is what keyfunc v2 checks before it gives a key: the token names it, it is for
// signatures, and it is for the token's algorithm.
func (g goSDK) keyfunc(token *jwt.Token) (any, error) {
	kid, _ := token.Header["kid"].(string)
	k, known := g.keys[kid]
	if !known || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != token.Header["alg"] {
		return nil, fmt.Errorf("the key %q is %+v", kid, k)
	}
	return k.public()
}

// authenticate is what AuthenticateToken does: golang-jwt without leeway, with either of
// two issuers; the scope must be there, as text.
func (g goSDK) authenticate(token string, required ...string) (clientID string, scopes []string, custom map[string]any, err error) {
	claims := jwt.MapClaims{}
	for _, issuer := range []string{"stytch.com/" + g.id, g.url} {
		if _, err = jwt.ParseWithClaims(token, claims, g.keyfunc, jwt.WithAudience(g.id), jwt.WithIssuer(issuer)); err == nil {
			break
		}
	}
	if err != nil {
		return "", nil, nil, err
	}
	scope, ok := claims["scope"].(string)
	if !ok {
		return "", nil, nil, fmt.Errorf("no scope in %v", claims)
	}
	scopes = strings.Split(scope, " ")
	if !authorized(scopes, required...) {
		return "", nil, nil, fmt.Errorf("scopes %q don't allow %q", scopes, required)
	}
	clientID, err = claims.GetSubject()
	maps.DeleteFunc(claims, func(name string, _ any) bool {
		return slices.Contains([]string{"exp", "nbf", "iat", "aud", "sub", "iss", "scope"}, name)
	})
	return clientID, scopes, claims, err
}

// The guide, by the requests of Stytch's SDK for Go.
func TestGoRequests(t *testing.T) {
	eachProject(t, func(t *testing.T, p project) {
		g := newGoSDK(t, p, "/v1/sessions/jwks/")
		name := "go " + rand.Text()
		client := g.must(t, http.MethodPost, "", map[string]any{
			"scopes": []string{"read:users", "write:*"}, "client_name": name, "trusted_metadata": map[string]any{"tier": "gold"},
		}).M2MClient
		at := "/" + client.ClientID
		if got := g.must(t, http.MethodGet, at, nil).M2MClient; got.ClientName != name || got.ClientSecret != "" || got.TrustedMetadata["tier"] != "gold" {
			t.Errorf("got %+v", got)
		}
		g.checkTokens(t, client.ClientID, client.ClientSecret)

		update := map[string]any{"client_id": client.ClientID, "status": "inactive"}
		if updated := g.must(t, http.MethodPut, at, update).M2MClient; updated.Status != "inactive" || len(updated.Scopes) != 2 {
			t.Errorf("updated %+v", updated)
		}
		g.refuses(t, "invalid_client", client.ClientID, client.ClientSecret)
		update["status"] = "active"
		g.must(t, http.MethodPut, at, update)
		g.checkRotation(t, client.ClientID, client.ClientSecret)
		g.checkSearch(t, client.ClientID, name)

		if deleted := g.must(t, http.MethodDelete, at, nil); deleted.ClientID != client.ClientID {
			t.Errorf("deleted %+v", deleted)
		}
		if _, failure := g.manage(t, http.MethodGet, at, nil); failure.StatusCode != http.StatusNotFound || failure.ErrorType != "m2m_client_not_found" {
			t.Errorf("%+v", failure)
		}
		g.secret = "secret-test-wrong"
		if _, failure := g.manage(t, http.MethodGet, at, nil); failure.StatusCode != http.StatusUnauthorized || failure.ErrorType != "unauthorized_credentials" {
			t.Errorf("%+v", failure)
		}
	})
}

func (g goSDK) checkTokens(t *testing.T, id, secret string) {
	t.Helper()
	token := g.accepts(t, id, secret)
	for _, path := range []string{"/v1/sessions/jwks/", "/v1/b2b/sessions/jwks/"} {
		sdk := newGoSDK(t, g.project, path)
		got, scopes, custom, err := sdk.authenticate(token, "read:users", "write:books")
		if err != nil || got != id || len(scopes) != 2 || len(custom) != 0 {
			t.Errorf("%s: client id %q, scopes %q, custom claims %v, %v", path, got, scopes, custom, err)
		}
	}
	if _, _, _, err := g.authenticate(token, "delete:users"); err == nil {
		t.Error("a scope that isn't held is authorized")
	}
	if _, scopes, _, err := g.authenticate(g.accepts(t, id, secret, "read:users")); err != nil || !slices.Equal(scopes, []string{"read:users"}) {
		t.Errorf("scopes %q, %v", scopes, err)
	}
	g.refuses(t, "invalid_scope", id, secret, "delete:users")
}

// The scope claim is there even if it is empty: the SDK requires it.
func TestTokenWithoutScopes(t *testing.T) {
	eachProject(t, func(t *testing.T, p project) {
		g := newGoSDK(t, p, "/v1/sessions/jwks/")
		client := g.must(t, http.MethodPost, "", map[string]any{"client_name": "go " + rand.Text()}).M2MClient // its body leaves out empty scopes
		if got, _, _, err := g.authenticate(g.accepts(t, client.ClientID, client.ClientSecret)); err != nil || got != client.ClientID {
			t.Errorf("client id %q, %v", got, err)
		}
		g.must(t, http.MethodDelete, "/"+client.ClientID, nil)
	})
}

func (g goSDK) checkRotation(t *testing.T, id, secret string) {
	t.Helper()
	at, body := "/"+id+"/secrets/rotate", map[string]any{"client_id": id}
	dropped := g.must(t, http.MethodPost, at+"/start", body).M2MClient.NextClientSecret
	g.accepts(t, id, dropped)
	g.must(t, http.MethodPost, at+"/cancel", body)
	g.refuses(t, "invalid_client", id, dropped)

	started := g.must(t, http.MethodPost, at+"/start", body).M2MClient
	g.accepts(t, id, secret)
	g.accepts(t, id, started.NextClientSecret)
	rotated := g.must(t, http.MethodPost, at, body).M2MClient
	if rotated.ClientSecretLastFour != started.NextClientSecretLastFour || rotated.NextClientSecretLastFour != "" {
		t.Errorf("started %+v, rotated %+v", started.NextClientSecretLastFour, rotated)
	}
	g.accepts(t, id, started.NextClientSecret)
	g.refuses(t, "invalid_client", id, secret)
}

func (g goSDK) checkSearch(t *testing.T, id, name string) {
	t.Helper()
	found := g.must(t, http.MethodPost, "/search", map[string]any{"limit": 1, "query": map[string]any{
		"operator": "AND", "operands": []any{map[string]any{"filter_name": "client_name", "filter_value": []string{name}}},
	}})
	if len(found.M2MClients) != 1 || found.M2MClients[0].ClientID != id || found.ResultsMetadata.Total != 1 || found.ResultsMetadata.NextCursor != "" {
		t.Errorf("found %+v", found)
	}
	if all := g.must(t, http.MethodPost, "/search", map[string]any{}); all.ResultsMetadata.Total == 0 || len(all.M2MClients) == 0 {
		t.Errorf("an empty search finds %+v", all.ResultsMetadata)
	}
}

// Go's own OAuth client, for real, in each of its ways to authenticate. The secret has
// characters that it escapes.
func TestClientCredentials(t *testing.T) {
	eachProject(t, func(t *testing.T, p project) {
		g := newGoSDK(t, p, "/v1/sessions/jwks/")
		secret := rand.Text() + "+/:%&=~"
		client := g.must(t, http.MethodPost, "", map[string]any{"scopes": []string{"read:users", "write:users"}, "client_secret": secret}).M2MClient
		for style, name := range map[oauth2.AuthStyle]string{
			oauth2.AuthStyleAutoDetect: "detected", oauth2.AuthStyleInHeader: "in the header", oauth2.AuthStyleInParams: "in the parameters",
		} {
			t.Run(name, func(t *testing.T) {
				config := clientcredentials.Config{
					ClientID: client.ClientID, ClientSecret: secret, TokenURL: p.url + "/v1/public/" + p.id + "/oauth2/token",
					Scopes: []string{"read:users"}, AuthStyle: style,
				}
				checkOAuth2(t, g, config)
			})
		}
		g.must(t, http.MethodDelete, "/"+client.ClientID, nil)
	})
}

func checkOAuth2(t *testing.T, g goSDK, config clientcredentials.Config) {
	t.Helper()
	token, err := config.Token(context.WithValue(t.Context(), oauth2.HTTPClient, web))
	if err != nil {
		t.Fatal(err)
	}
	if token.Type() != "Bearer" || !token.Valid() || token.Extra("scope") != "read:users" {
		t.Errorf("token type %q, expiry %v, scope %v", token.Type(), token.Expiry, token.Extra("scope"))
	}
	if id, _, _, err := g.authenticate(token.AccessToken, "read:users"); err != nil || id != config.ClientID {
		t.Errorf("client id %q, %v", id, err)
	}
	config.Scopes = []string{"delete:users"}
	checkRetrieveError(t, config, "invalid_scope")
	config.ClientSecret = "wrong"
	checkRetrieveError(t, config, "invalid_client")
}

func checkRetrieveError(t *testing.T, config clientcredentials.Config, code string) {
	t.Helper()
	_, err := config.Token(context.WithValue(t.Context(), oauth2.HTTPClient, web))
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refusal.ErrorCode != code || refusal.ErrorDescription == "" {
		t.Errorf("%v, want %s", err, code)
	}
}
