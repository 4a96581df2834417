package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// source is where the credential comes from.
type source struct {
	dir       string // files, read again for each token
	assertion string // a ServiceAccount's token in place of a secret
	tokenURL  string
}

// tokenRequest is a request for a token (RFC 6749, section 4.4).
type tokenRequest struct {
	*http.Request

	lastFour    string // of the client_secret
	authorities []byte // PEM; empty: the system's
}

func (s source) request(ctx context.Context) (tokenRequest, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if s.assertion != "" {
		token, err := os.ReadFile(s.assertion)
		if err != nil {
			return tokenRequest{}, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", string(token))
		return post(ctx, s.tokenURL, form)
	}
	read := s.file
	if s.dir == "" {
		read = variable
	}
	var values [4]string
	for i, name := range []string{"token_url", "client_id", "client_secret", "ca.crt"} {
		value, err := read(name)
		if err != nil {
			return tokenRequest{}, err
		}
		values[i] = value
	}
	request, err := post(ctx, values[0], form)
	if err != nil {
		return tokenRequest{}, err
	}
	secret := values[2]
	request.SetBasicAuth(url.QueryEscape(values[1]), url.QueryEscape(secret))
	request.lastFour = secret[max(0, len(secret)-4):]
	request.authorities = []byte(values[3])
	return request, nil
}

func post(ctx context.Context, tokenURL string, form url.Values) (tokenRequest, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return tokenRequest{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return tokenRequest{Request: request}, nil
}

func (s source) file(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if name == "ca.crt" && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

// variable is CLIENT_ID for client_id, and CA_CRT for ca.crt.
func variable(name string) (string, error) {
	key := strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
	value, found := os.LookupEnv(key)
	if !found && name != "ca.crt" {
		return "", fmt.Errorf("the environment has no %s", key)
	}
	return value, nil
}

// web sends requests: over connections that it keeps, or each over a new one.
type web struct {
	fresh bool

	trusted string
	client  *http.Client
}

// trust makes a new client if the authorities are others than before.
func (w *web) trust(authorities []byte) error {
	if w.client != nil && string(authorities) == w.trusted {
		return nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = w.fresh
	if len(authorities) > 0 {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(authorities) {
			return errors.New("there is no certificate in ca.crt")
		}
	}
	w.trusted, w.client = string(authorities), &http.Client{Transport: transport}
	return nil
}

// refusal is an answer that is no success.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

func (w *web) do(request *http.Request) ([]byte, error) {
	response, err := w.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, &refusal{response.StatusCode, string(body)}
	}
	return body, nil
}
