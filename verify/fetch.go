package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of answers.
const (
	fetchTimeout = 10 * time.Second
	maxBody      = 256 << 10 // bytes
	maxHeader    = 64 << 10  // bytes
	maxRedirects = 3
)

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    fetchTimeout,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeader,
	}}
}

// sameHost follows redirects that stay where they began: another host has no say
// over keys, and plain http has none over https.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > maxRedirects {
		return errors.New("redirects to other hosts are not followed")
	}
	return nil
}

// document is something that was fetched.
type document struct {
	body   []byte
	etag   string
	maxAge time.Duration // negative: not said
	same   bool          // it has not changed (RFC 9110 section 15.4.5)
}

// get fetches a document, unless it is the one with the ETag.
func get(ctx context.Context, client *http.Client, address, etag string) (document, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return document{}, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	following := *client
	following.CheckRedirect = sameHost
	response, err := following.Do(request)
	if err != nil {
		return document{}, err
	}
	defer func() { _ = response.Body.Close() }()
	d := document{etag: response.Header.Get("ETag"), maxAge: maxAge(response.Header)}
	switch {
	case response.StatusCode == http.StatusNotModified && etag != "":
		d.same, d.etag = true, cmp.Or(d.etag, etag)
		return d, nil
	case response.StatusCode != http.StatusOK:
		return document{}, fmt.Errorf("%s answers %d", address, response.StatusCode)
	}
	d.body, err = readBounded(response.Body)
	return d, err
}

func readBounded(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("the answer is longer than %d bytes", maxBody)
	}
	return body, err
}

// maxAge reads how long an answer may be kept (RFC 9111 section 5.2.2.1).
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			return time.Duration(seconds) * time.Second
		}
	}
	return -1
}

// discover finds the URL of an issuer's keys in its metadata (RFC 8414 section 3).
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	address, err := metadataURL(issuer)
	if err != nil {
		return "", err
	}
	d, err := get(ctx, client, address, "")
	if err != nil {
		return "", fmt.Errorf("fetching the issuer's metadata: %w", err)
	}
	return parseMetadata(d.body, issuer)
}

// metadataURL puts the well-known path between host and path (RFC 8414 section 3.1).
func metadataURL(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// parseMetadata reads jwks_uri out of the metadata, which must be that of the very issuer
// (RFC 8414 section 3.3).
func parseMetadata(text []byte, issuer string) (string, error) {
	found := map[string]string{}
	err := members(text, func(name string, value []byte) (err error) {
		if name == "issuer" || name == "jwks_uri" {
			found[name], err = unquote(value)
		}
		return err
	})
	keysURL := found["jwks_uri"]
	switch {
	case err != nil:
		return "", fmt.Errorf("the issuer's metadata: %w", err)
	case found["issuer"] != issuer:
		return "", errors.New("the metadata is that of another issuer")
	case strings.HasPrefix(issuer, "https:") && !strings.HasPrefix(keysURL, "https:"):
		return "", errors.New("the metadata has no https jwks_uri")
	}
	return keysURL, checkURL(keysURL)
}

// parseIntrospection reads an answer of RFC 7662 section 2.2. One that is about another
// token is an error.
func parseIntrospection(text []byte, c *Claims) (active bool, err error) {
	expected := map[string]string{"client_id": c.ClientID, "sub": c.ClientID, "iss": c.Issuer}
	said := false
	err = members(text, func(name string, value []byte) error {
		if name == "active" {
			said = true
			return json.Unmarshal(value, &active)
		}
		if want, ok := expected[name]; ok {
			if got, err := unquote(value); err != nil || got != want {
				return fmt.Errorf("its %s is not the token's", name)
			}
		}
		return nil
	})
	if err == nil && !said {
		err = errors.New("it doesn't say whether the token is active")
	}
	return active && err == nil, err
}
