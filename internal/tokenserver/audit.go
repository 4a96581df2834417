package tokenserver

import (
	"cmp"
	"encoding/base64"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Outcomes of requests that succeed; others have the OAuth error code.
const (
	outcomeIssued    = "issued"
	outcomeActive    = "active"
	outcomeInactive  = "inactive"
	outcomeRevoked   = "revoked"
	outcomeUnchanged = "unchanged" // there was nothing to revoke
)

// events name the endpoints in the audit log and in metrics.
var events = map[endpoint]string{
	tokenEndpoint: "token", introspectionEndpoint: "introspection", revocationEndpoint: "revocation",
}

// What comes from callers is cut at these lengths, in bytes.
const (
	maxAuditedID    = 128
	maxAuditedScope = 1024
)

// auditLog is one line of JSON for each request of a client.
type auditLog struct {
	mu    sync.Mutex // one Write at a time, whatever out is
	out   io.Writer
	logID func(string) string // what stands for an id that is nobody's
}

func (a *auditLog) write(x *exchange, peer string, elapsed time.Duration) error {
	x.line = x.appendAudit(x.line[:0], peer, elapsed, a.logID)
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.out.Write(x.line)
	return err
}

// appendAudit appends the line. The reason is the operator's alone: the caller
// can't tell an unknown client from a wrong secret.
func (x *exchange) appendAudit(dst []byte, peer string, elapsed time.Duration, logID func(string) string) []byte {
	issuer, outcome := "", x.outcome
	if x.issuer != nil {
		issuer = x.issuer.Name
	}
	if x.problem.status != 0 {
		outcome = string(x.problem.code)
	}
	dst = append(dst, `{"time":"`...)
	dst = x.start.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","event":"`...)
	dst = append(dst, events[x.endpoint]...)
	dst = append(dst, `","request_id":"`...)
	dst = append(dst, x.requestID...)
	if x.trace != nil {
		dst = append(dst, `","trace_id":"`...)
		dst = append(dst, x.trace.ID()...)
	}
	dst = append(dst, `","issuer":`...)
	dst = token.AppendString(dst, issuer)
	dst = append(dst, `,"client_id":`...)
	dst = token.AppendString(dst, x.auditedID(logID))
	dst = append(dst, `,"method":`...)
	dst = token.AppendString(dst, string(x.grant.Method))
	if x.grant.Account.Name != "" {
		dst = append(dst, `,"service_account":`...)
		dst = token.AppendString(dst, x.grant.Account.Namespace+"/"+x.grant.Account.Name)
	}
	if x.digest != nil {
		dst = append(dst, `,"token_digest":"`...)
		dst = base64.RawURLEncoding.AppendEncode(dst, x.digest[:])
		dst = append(dst, '"')
	}
	dst = append(dst, `,"version":`...)
	dst = token.AppendString(dst, x.grant.Version)
	dst = append(dst, `,"scope":`...)
	dst = token.AppendString(dst, x.auditedScope())
	dst = append(dst, `,"outcome":`...)
	dst = token.AppendString(dst, outcome)
	dst = append(dst, `,"reason":`...)
	dst = token.AppendString(dst, x.problem.reason)
	dst = append(dst, `,"peer":`...)
	dst = token.AppendString(dst, peer)
	dst = append(dst, `,"duration_us":`...)
	dst = strconv.AppendInt(dst, elapsed.Microseconds(), 10)
	return append(dst, "}\n"...)
}

// auditedID is the client's id, or what stands for one that is nobody's.
func (x *exchange) auditedID(logID func(string) string) string {
	if x.grant.Client != nil {
		return x.grant.Client.ID()
	}
	id := cut(cmp.Or(x.request.ClientID, x.grant.Claimed), maxAuditedID)
	stands := logID(id) // for known ones, too: the time must not tell which are
	if id == "" || slices.Contains(ofKnown, x.problem.reason) {
		return id
	}
	return stands
}

// ofKnown are the reasons of refusals of what is a client.
var ofKnown = []string{"wrong_secret", "expired_version", "inactive", "unknown_key", "wrong_algorithm", "wrong_signature", "assertion_replayed", "account_gone"}

// auditedScope is the scope that was granted, or refused to one who has
// authenticated. Anybody else's is of no interest.
func (x *exchange) auditedScope() string {
	switch {
	case x.grant.Client == nil:
		return ""
	case x.problem.status == 0:
		return x.grant.Scope
	default:
		return cut(x.request.Scope, maxAuditedScope)
	}
}

func cut(s string, length int) string { return s[:min(len(s), length)] }
