// Package tokenserver is the HTTP side of the token authority: the endpoints where
// clients get, inspect and revoke tokens, the public keys and the discovery documents. It treats every caller as hostile,
// and knows nothing of Kubernetes.
package tokenserver

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Issuers finds issuers. It is asked in every request, so its answers are in memory.
type Issuers interface {
	// Issuer finds an issuer by its project id.
	Issuer(projectID string) (*token.Issuer, bool)
	// IssuerAt finds an issuer by the host and path of its URL.
	IssuerAt(host, path string) (*token.Issuer, bool)
}

// Usage is told of every token that is given. It is part of each request: it mustn't
// wait for anything.
type Usage interface {
	// Used says which version of a client's secret was used, or which other way to
	// authenticate.
	Used(issuer, clientID, version string, at time.Time)
}

// Revocations keeps which tokens were revoked.
type Revocations interface {
	// Revoke returns when the revocation of a client's token is durable. An error that
	// isn't a [*token.Error] says that it may not be.
	Revoke(ctx context.Context, issuer, clientID string, digest [sha256.Size]byte, expires time.Time) error
}

// Reviewer asks the cluster about ServiceAccount tokens.
type Reviewer interface {
	// Review tells whether the cluster takes a token for an audience.
	Review(ctx context.Context, token, audience string) (bool, error)
}

// Failures counts failed authentications.
type Failures interface {
	// Limited records one and tells whether there were too many. The last key is the
	// address that it came from; those before it say who the caller claims to be.
	Limited(now time.Time, keys ...string) (retryAfter time.Duration, limited bool)
}

// Config is what a handler needs. All of it is required but where it says otherwise.
type Config struct {
	Issuers     Issuers
	Authority   *token.Authority
	Usage       Usage
	Revocations Revocations
	Reviewer    Reviewer // nil: ServiceAccount tokens are checked without the cluster
	Failures    Failures // nil: authentication may fail as often as it likes
	// Peer returns the address that a request comes from; nil: that of its connection.
	Peer func(*http.Request) string
	// Management answers what is below /v1/m2m/; nil: there is nothing.
	Management http.Handler
	Tracer     Tracer    // nil: no request is followed
	Audit      io.Writer // gets one line of JSON with one Write for each request of a client
	// LogID is what stands in that for a client id that is nobody's: it may be a secret.
	LogID   func(id string) string
	Metrics prometheus.Registerer
	Log     *slog.Logger // gets the causes behind opaque answers
	Now     func() time.Time
	Random  io.Reader // cryptographically secure, safe for concurrent use
}

// Handler serves the public endpoints of all issuers.
type Handler struct {
	issuers     Issuers
	authority   *token.Authority
	usage       Usage
	revocations Revocations
	reviewer    Reviewer
	failures    Failures
	peer        func(*http.Request) string
	management  http.Handler
	tracer      Tracer
	audit       auditLog
	metrics     *metrics
	log         *slog.Logger
	now         func() time.Time
	random      io.Reader
}

// NewHandler makes a handler and registers its metrics.
func NewHandler(c Config) (*Handler, error) {
	if c.Issuers == nil || c.Authority == nil || c.Usage == nil || c.Revocations == nil || c.Audit == nil || c.LogID == nil || c.Metrics == nil || c.Log == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("a token server's configuration is incomplete")
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	return &Handler{
		issuers:     c.Issuers,
		authority:   c.Authority,
		usage:       c.Usage,
		revocations: c.Revocations,
		reviewer:    c.Reviewer,
		failures:    c.Failures,
		peer:        c.Peer,
		management:  c.Management,
		tracer:      c.Tracer,
		audit:       auditLog{out: c.Audit, logID: c.LogID},
		metrics:     m,
		log:         c.Log,
		now:         c.Now,
		random:      c.Random,
	}, nil
}

// ServeHTTP routes by path: the issuers come and go while the server runs.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := route(r.URL)
	switch target.endpoint {
	case tokenEndpoint, introspectionEndpoint, revocationEndpoint:
		h.serveClient(w, r, target)
		return
	case noEndpoint:
		if h.management != nil && strings.HasPrefix(r.URL.EscapedPath(), managementPrefix) {
			h.management.ServeHTTP(w, r)
			return
		}
	}
	issuer, err := h.issuerOf(r, target)
	if err != nil {
		h.refuse(w, err)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.refuse(w, errMethod)
		return
	}
	if !issuer.Available() {
		h.refuse(w, errUnavailable)
		return
	}
	if target.endpoint == jwksEndpoint {
		serveDocument(w, r, issuer.JWKS)
	} else {
		serveDocument(w, r, issuer.Metadata)
	}
}

// issuerOf finds the issuer whose document is asked for.
func (h *Handler) issuerOf(r *http.Request, to target) (*token.Issuer, error) {
	switch to.endpoint {
	case jwksEndpoint:
		return h.issuerAt(to)
	case metadataEndpoint:
		if issuer, ok := h.issuers.IssuerAt(r.Host, to.prefix); ok {
			return issuer, nil
		}
	}
	return nil, errNotFound
}

// issuerAt finds an issuer by project id. The path of its URL may stand before the
// endpoint's, or a proxy may have cut it off.
func (h *Handler) issuerAt(to target) (*token.Issuer, error) {
	issuer, ok := h.issuers.Issuer(to.projectID)
	if !ok || to.prefix != "" && to.prefix != issuer.Path {
		return nil, errUnknownProject
	}
	return issuer, nil
}

// documentAge is how long a verifier may keep a document. A new signing key is
// published long before it signs.
const documentAge = 5 * time.Minute

func serveDocument(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(documentAge/time.Second)))
	header.Set("ETag", etag)
	if matches(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // net/http leaves it out of the answer to HEAD
}

// matches compares entity tags (RFC 9110 section 13.1.2).
func matches(header []string, etag string) bool {
	for _, list := range header {
		for candidate := range strings.SplitSeq(list, ",") {
			if c := strings.TrimSpace(candidate); c == "*" || strings.TrimPrefix(c, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// refuse answers where no token was asked for.
func (h *Handler) refuse(w http.ResponseWriter, err error) {
	var random [16]byte
	if _, err := io.ReadFull(h.random, random[:]); err != nil {
		h.log.Error("reading random bytes for a request id", "cause", err)
	}
	p := problemOf(err)
	writeJSON(w, p.status, p.append(nil, appendNewRequestID(nil, nil, random)))
}
