package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxAnswers bounds the cached answers to introspections.
const maxAnswers = 4096

// Introspection says how to ask the issuer whether a token is still active (RFC 7662).
type Introspection struct {
	// URL is the introspection_endpoint of the issuer's metadata, https or on loopback.
	URL string
	// Credential returns the client id and the client secret of this service. It is
	// called for each question, so that a rotated secret is noticed. Stytch's profile lets
	// any client of the issuer ask; with RFC 9068 the client needs this service's audience.
	Credential func() (clientID, clientSecret string, err error)
	// MaxAge is how old an answer may be; 0 asks about each request.
	MaxAge time.Duration
}

func (i Introspection) check() error {
	switch {
	case i.Credential == nil:
		return errors.New("introspection needs a credential")
	case i.MaxAge < 0:
		return errors.New("the greatest age of an introspection's answer must not be negative")
	}
	return checkURL(i.URL)
}

type introspector struct {
	Introspection
	client *http.Client

	mu      sync.Mutex
	answers map[[32]byte]answer // by the token's digest
}

type answer struct {
	active bool
	at     time.Time // when it was asked
}

func newIntrospector(i Introspection, client *http.Client) *introspector {
	asking := *client
	// A redirect would carry the token elsewhere.
	asking.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &introspector{Introspection: i, client: &asking, answers: map[[32]byte]answer{}}
}

// active tells whether the issuer takes a token for active, now or a short time ago.
func (i *introspector) active(ctx context.Context, token string, c *Claims) (bool, error) {
	asked := time.Now()
	if known, ok := i.recall(c.Digest, asked); ok {
		return known, nil
	}
	active, err := i.ask(ctx, token, c)
	if err == nil && i.MaxAge > 0 {
		i.remember(c.Digest, answer{active, asked})
	}
	return active, err
}

func (i *introspector) recall(digest [32]byte, now time.Time) (active, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.answers[digest]
	return known.active, ok && now.Sub(known.at) < i.MaxAge
}

// remember makes room first: which answer goes doesn't matter, it can be asked for again.
func (i *introspector) remember(digest [32]byte, a answer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for d := range i.answers {
		if len(i.answers) < maxAnswers {
			break
		}
		delete(i.answers, d)
	}
	// A slow answer doesn't take the place of a later question's.
	if known, ok := i.answers[digest]; !ok || known.at.Before(a.at) {
		i.answers[digest] = a
	}
}

// ask posts the token to the issuer (RFC 7662 section 2.1), as the client that this
// service is (RFC 6749 section 2.3.1).
func (i *introspector) ask(ctx context.Context, token string, c *Claims) (bool, error) {
	id, secret, err := i.Credential()
	if err != nil {
		return false, fmt.Errorf("the service's own credential: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, i.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	response, err := i.client.Do(request)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("the issuer answers %d", response.StatusCode)
	}
	body, err := readBounded(response.Body)
	if err != nil {
		return false, err
	}
	return parseIntrospection(body, c)
}
