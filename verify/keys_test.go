package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const jwksURL = issuer + "/v1/public/" + audience + "/oauth2/jwks"

// origin is an issuer's web server, without a network: time in these tests is that of
// their bubble.
type origin struct {
	mu      sync.Mutex
	serve   server
	fetches []time.Time
}

func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.fetches = append(o.fetches, time.Now())
	serve := o.serve
	o.mu.Unlock()
	p := serve(r)
	if p.err != nil {
		return nil, p.err
	}
	return &http.Response{StatusCode: p.status, Header: p.header, Body: io.NopCloser(strings.NewReader(p.body)), Request: r}, nil
}

func (o *origin) set(serve server) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serve = serve
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.fetches)
}

type server func(r *http.Request) page

type page struct {
	status int
	header http.Header
	body   string
	err    error // there is no answer
}

func reply(status int, body string, header ...string) server {
	h := http.Header{}
	for n := 0; n < len(header); n += 2 {
		h.Add(header[n], header[n+1])
	}
	return func(*http.Request) page { return page{status: status, header: h, body: body} }
}

func down(*http.Request) page { return page{err: errors.New("connection refused")} }

// hang answers never.
func hang(r *http.Request) page {
	<-r.Context().Done()
	return page{err: r.Context().Err()}
}

func newRemote(t *testing.T, o *origin, options ...Option) *Verifier {
	v, err := New(issuer, audience, append([]Option{
		WithJWKSURL(jwksURL), WithAlgorithms(allAlgorithms...), WithClock(func() time.Time { return now }),
		WithHTTPClient(&http.Client{Transport: o}), WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)...)
	check(t, err)
	return v
}

// TestRefresh: keys are fetched in the background, a new one is found at once, and one
// that is gone is refused from the next fetch on.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := testKeys()[ES256], testKeys()[EdDSA]
		o := &origin{serve: reply(200, string(jwks(t, first)))}
		v := newRemote(t, o)
		defer v.Close()
		check(t, v.Ready(t.Context()))
		for range 100 {
			check(t, authenticate(v, first.good()))
		}
		if o.count() != 1 {
			t.Fatalf("%d fetches", o.count())
		}
		time.Sleep(DefaultRefetchFloor)
		o.set(reply(200, string(jwks(t, first, second))))
		check(t, authenticate(v, second.good()))
		if o.count() != 2 {
			t.Fatalf("%d fetches", o.count())
		}
		o.set(reply(200, string(jwks(t, second))))
		time.Sleep(DefaultRefreshInterval)
		checkRefused(t, v, first.good(), ErrInvalidToken)
		check(t, authenticate(v, second.good()))
		o.set(reply(200, `{"keys":[]}`)) // the issuer's word, too
		time.Sleep(DefaultRefreshInterval)
		checkRefused(t, v, second.good(), ErrInvalidToken)
	})
}

func authenticate(v *Verifier, token string) error {
	_, err := v.AuthenticateToken(context.Background(), token)
	return err
}

// TestUnknownKeys: whoever sends tokens with unknown key ids makes one fetch in each floor,
// however many there are at a time; tokens that are refused anyway make none.
func TestUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeys()[ES256]
		slow := func(r *http.Request) page {
			time.Sleep(time.Second)
			return reply(200, string(jwks(t, k)))(r)
		}
		o := &origin{serve: slow}
		v := newRemote(t, o, WithRefreshInterval(30*time.Minute))
		defer v.Close()
		check(t, v.Ready(t.Context()))
		var wrong atomic.Int64
		for wave := range 30 {
			var group sync.WaitGroup
			for n := range 200 {
				stray := *k
				stray.id = fmt.Sprint("stray", wave, n)
				group.Go(func() {
					if err := authenticate(v, stray.good()); !errors.Is(err, ErrInvalidToken) {
						wrong.Add(1)
					}
				})
			}
			group.Wait()
			time.Sleep(time.Second)
		}
		if wrong.Load() > 0 {
			t.Errorf("%d tokens are not refused as unknown", wrong.Load())
		}
		for i := 1; i < len(o.fetches); i++ {
			if o.fetches[i].Sub(o.fetches[i-1]) < DefaultRefetchFloor {
				t.Fatalf("fetches at %v", o.fetches)
			}
		}
		time.Sleep(DefaultRefetchFloor)
		before := o.count()
		stray := *k
		stray.id = "stray"
		checkRefused(t, v, stray.token(stray.header("JWT"), claimsWith(Stytch, map[string]any{"exp": 1})), ErrTokenExpired)
		checkRefused(t, v, stray.token(stray.header("JWT"), claimsWith(Stytch, map[string]any{"aud": "x"})), ErrInvalidToken)
		if o.count() != before {
			t.Error("a token that is refused anyway makes a fetch")
		}
	})
}

// TestOutage: keys are used until they are too old, then nothing is, then they are back.
func TestOutage(t *testing.T) {
	for name, broken := range map[string]server{
		"down": down, "hangs": hang, "500": reply(500, ""), "404": reply(404, ""), "204": reply(204, ""), "304 unasked": reply(304, ""), "HTML": reply(200, "<html>"), "cut off": reply(200, `{"keys":[`),
		"huge":         reply(200, string(allJWKS(t))+strings.Repeat(" ", maxBody)),
		"other host":   redirect(t, "https://evil.example.com/jwks"),
		"other port":   redirect(t, issuer+":8443/jwks"),
		"other scheme": redirect(t, strings.Replace(jwksURL, "https:", "http:", 1)),
		"loop":         reply(302, "", "Location", jwksURL),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, later := testKeys()[ES256], testKeys()[EdDSA]
				good := reply(200, string(jwks(t, k)))
				o := &origin{serve: good}
				v := newRemote(t, o)
				defer v.Close()
				check(t, v.Ready(t.Context()))
				o.set(broken)
				time.Sleep(DefaultMaxKeyAge)
				check(t, authenticate(v, k.good()))
				checkRefused(t, v, later.good(), ErrKeysUnavailable) // it may be a new key
				time.Sleep(DefaultRefreshInterval)
				checkRefused(t, v, k.good(), ErrKeysUnavailable)
				wraps(t, v.Ready(t.Context()), ErrKeysUnavailable)
				o.set(good)
				time.Sleep(DefaultRefreshInterval)
				check(t, authenticate(v, k.good()))
				checkRefused(t, v, later.good(), ErrInvalidToken)
				check(t, v.Ready(t.Context()))
			})
		})
	}
}

// redirect sends who asks for keys elsewhere, where there are some.
func redirect(t *testing.T, location string) server {
	elsewhere := reply(200, string(allJWKS(t)))
	return func(r *http.Request) page {
		if r.URL.String() == jwksURL {
			return reply(302, "", "Location", location)(r)
		}
		return elsewhere(r)
	}
}

// TestRedirect: an issuer may move its keys on its own host.
func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newRemote(t, &origin{serve: redirect(t, "/keys")})
		defer v.Close()
		check(t, authenticate(v, testKeys()[ES256].good()))
	})
}

// TestNeverUp: without keys everything is refused, in bounded time, and when the issuer
// comes back so do answers.
func TestNeverUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{serve: hang}
		v := newRemote(t, o)
		defer v.Close()
		start := time.Now()
		checkRefused(t, v, testKeys()[ES256].good(), ErrKeysUnavailable)
		if waited := time.Since(start); waited != maxWait {
			t.Errorf("waited %v", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wraps(t, second(v.AuthenticateToken(ctx, testKeys()[ES256].good())), context.DeadlineExceeded)
		wraps(t, v.Ready(ctx), ErrKeysUnavailable)
		o.set(reply(200, string(jwks(t, testKeys()[ES256]))))
		time.Sleep(time.Minute)
		check(t, authenticate(v, testKeys()[ES256].good()))
	})
}

// TestCrowd: of those who wait for keys there are only so many at a time.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newRemote(t, &origin{serve: hang})
		defer v.Close()
		var atOnce atomic.Int64
		var group sync.WaitGroup
		token := testKeys()[ES256].good()
		for range maxWaiting + 50 {
			group.Go(func() {
				start := time.Now()
				if err := authenticate(v, token); !errors.Is(err, ErrKeysUnavailable) {
					t.Error(err)
				}
				if time.Since(start) == 0 {
					atOnce.Add(1)
				}
			})
		}
		group.Wait()
		if atOnce.Load() != 50 {
			t.Errorf("%d were refused at once", atOnce.Load())
		}
	})
}

// TestConditional: a set that has not changed isn't sent again, and stays fresh.
func TestConditional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeys()[ES256]
		full, same := 0, 0
		o := &origin{serve: func(r *http.Request) page {
			if r.Header.Get("If-None-Match") == `"1"` {
				same++
				return reply(304, "", "ETag", `"1"`)(r)
			}
			full++
			return reply(200, string(jwks(t, k)), "ETag", `"1"`)(r)
		}}
		v := newRemote(t, o)
		defer v.Close()
		time.Sleep(24 * time.Hour)
		check(t, authenticate(v, k.good()))
		if full != 1 || same < 24*12 {
			t.Errorf("%d full and %d empty answers", full, same)
		}
	})
}

// TestMoved: an ETag is of one URL; another's keys are other keys.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := testKeys()[ES256], testKeys()[EdDSA]
		sets := map[string][]byte{"/first": jwks(t, first), "/second": jwks(t, second)}
		at := func(path string) server {
			return func(r *http.Request) page {
				switch set := sets[r.URL.Path]; {
				case set == nil:
					return reply(200, `{"issuer":"`+issuer+`","jwks_uri":"`+issuer+path+`"}`)(r)
				case r.Header.Get("If-None-Match") == `"1"`:
					return reply(304, "")(r)
				default:
					return reply(200, string(set), "ETag", `"1"`)(r)
				}
			}
		}
		o := &origin{serve: at("/first")}
		v, err := New(issuer, audience, WithHTTPClient(&http.Client{Transport: o}), WithAlgorithms(ES256, EdDSA), WithClock(func() time.Time { return now }))
		check(t, err)
		defer v.Close()
		check(t, v.Ready(t.Context()))
		time.Sleep(DefaultRefreshInterval)
		check(t, authenticate(v, first.good()))
		o.set(at("/second"))
		time.Sleep(DefaultRefreshInterval)
		check(t, authenticate(v, second.good()))
		checkRefused(t, v, first.good(), ErrInvalidToken)
	})
}

// TestClose: it ends what goes on, and waits for that; synctest fails if a goroutine is left.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newRemote(t, &origin{serve: hang})
		refused := make(chan error)
		go func() { refused <- authenticate(v, testKeys()[ES256].good()) }()
		ready := make(chan error)
		go func() { ready <- v.Ready(context.Background()) }()
		synctest.Wait()
		v.Close()
		v.Close()
		wraps(t, <-refused, ErrKeysUnavailable)
		wraps(t, <-ready, ErrKeysUnavailable)
		wraps(t, authenticate(v, testKeys()[ES256].good()), ErrKeysUnavailable)
	})
}

// TestDiscovery: metadata says where the keys are, if it is the issuer's own.
func TestDiscovery(t *testing.T) {
	const path = "/.well-known/oauth-authorization-server"
	metadata := func(issuer, keys string) string { return `{"issuer":"` + issuer + `","jwks_uri":"` + keys + `"}` }
	for name, c := range map[string]struct {
		issuer, metadata string
		ok               bool
	}{
		"good":            {issuer, metadata(issuer, jwksURL), true},
		"with a path":     {issuer + "/tenant", metadata(issuer+"/tenant", jwksURL), true},
		"another issuer":  {issuer, metadata("https://evil.example.com", jwksURL), false},
		"trailing slash":  {issuer, metadata(issuer+"/", jwksURL), false},
		"no issuer":       {issuer, `{"jwks_uri":"` + jwksURL + `"}`, false},
		"issuer twice":    {issuer, `{"issuer":"x","issuer":"` + issuer + `","jwks_uri":"` + jwksURL + `"}`, false},
		"no keys":         {issuer, `{"issuer":"` + issuer + `"}`, false},
		"plain http":      {issuer, metadata(issuer, "http://auth.example.com/jwks"), false},
		"loopback http":   {issuer, metadata(issuer, "http://127.0.0.1/jwks"), false},
		"file":            {issuer, metadata(issuer, "file:///etc/jwks"), false},
		"URI not a text":  {issuer, `{"issuer":"` + issuer + `","jwks_uri":["` + jwksURL + `"]}`, false},
		"not JSON":        {issuer, `issuer`, false},
		"loopback issuer": {"http://127.0.0.1:8080", metadata("http://127.0.0.1:8080", "http://127.0.0.1:8080/jwks"), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{serve: func(r *http.Request) page {
					if strings.HasPrefix(r.URL.Path, path) {
						if want := path + strings.TrimPrefix(strings.TrimPrefix(c.issuer, "http://127.0.0.1:8080"), issuer); r.URL.Path != want {
							t.Errorf("metadata is looked for at %s", r.URL)
						}
						return reply(200, c.metadata)(r)
					}
					return reply(200, string(allJWKS(t)))(r)
				}}
				// The `iss` claim is one thing, where the issuer is another.
				v, err := New("stytch.com/project", audience, WithDiscovery(c.issuer), WithHTTPClient(&http.Client{Transport: o}),
					WithClock(func() time.Time { return now }), WithLogger(slog.New(slog.DiscardHandler)))
				check(t, err)
				defer v.Close()
				k := testKeys()[ES256]
				err = authenticate(v, k.token(k.header("JWT"), claimsWith(Stytch, map[string]any{"iss": "stytch.com/project"})))
				if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrKeysUnavailable) {
					t.Error(err)
				}
			})
		})
	}
}

// TestPause: bounds of when keys are fetched again.
func TestPause(t *testing.T) {
	r := &remoteKeys{refresh: 5 * time.Minute, floor: 10 * time.Second}
	for _, c := range []struct {
		maxAge   time.Duration
		failures int
		least    time.Duration
		most     time.Duration
	}{
		{-1, 0, 270 * time.Second, 300 * time.Second},
		{time.Hour, 0, 270 * time.Second, 300 * time.Second},
		{2 * time.Minute, 0, 108 * time.Second, 120 * time.Second},
		{0, 0, 54 * time.Second, 60 * time.Second},
		{-1, 1, 10 * time.Second, 10 * time.Second},
		{-1, 3, 20 * time.Second, 40 * time.Second},
		{time.Hour, 1000, 80 * time.Second, 160 * time.Second},
	} {
		if least, most := r.pause(c.maxAge, c.failures, 1), r.pause(c.maxAge, c.failures, 0); least != c.least || most != c.most {
			t.Errorf("%+v: from %v to %v", c, least, most)
		}
	}
	for value, want := range map[string]time.Duration{
		"": -1, "no-store": -1, "max-age=300": 300 * time.Second, "public, Max-Age=60": time.Minute, `max-age="5"`: 5 * time.Second,
		"max-age=-1": -1, "max-age=x": -1, "max-age=99999999999999999999": -1, "s-maxage=5": -1, "max-age": -1,
	} {
		if got := maxAge(http.Header{"Cache-Control": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
