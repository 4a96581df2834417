// Package managementapi is the HTTP side of the management API: Stytch's M2M API over
// the clients of an issuer. It treats every caller as hostile, and knows nothing of
// Kubernetes: who a caller is, and what becomes of clients, is behind interfaces.
package managementapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Authenticator tells who calls.
type Authenticator interface {
	// Basic checks the project id and project secret of a request. An error that isn't
	// a [*Problem] has an unknown cause.
	Basic(ctx context.Context, projectID, secret string) (Caller, error)
	// Bearer checks the Kubernetes token of a request. Before it makes others work for it,
	// it asks whether the caller has failed too often (limited), and answers with that error.
	Bearer(ctx context.Context, token string, limited func() error) (Caller, error)
}

// Caller is who calls, and which project the call is about.
type Caller struct {
	Issuer    string // name of the ClusterM2MIssuer
	ProjectID string
	Live      bool // else the project is for tests: shows in request ids
	Method    Method
	// Credential names the project secret that was used, for the audit log.
	Credential string
	User       User
}

// Method is how a caller authenticates.
type Method string

// The methods.
const (
	ByProjectSecret Method = "project_secret"
	ByToken         Method = "kubernetes"
)

// User is a caller as Kubernetes' access control knows it.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Client is what an answer says of a client.
type Client struct {
	ID              string
	Name            string
	Description     string
	Active          bool
	Scopes          []string
	LastFour        string // of its secret; empty: it has none, or one too short to show a part of
	NextLastFour    string // of the secret that a rotation has begun with; empty: none has
	TrustedMetadata map[string]json.RawMessage
}

// Changed is a client after a call that changed it.
type Changed struct {
	Client Client
	Secret string // made or set by this call, to be shown this once; empty: none was
	// Version is the resourceVersion at which the change holds, in the client's
	// Namespace: a server whose watch is as far answers by it.
	Version   uint64
	Namespace string
}

// Creation is what a new client is to be.
type Creation struct {
	ID              string // empty: one is made
	Secret          string // empty: one is made
	Name            string
	Description     string
	Scopes          []string
	TrustedMetadata map[string]json.RawMessage
}

// Change is what is to change of a client; nil: it stays.
type Change struct {
	Name        *string
	Description *string
	Active      *bool
	Scopes      *[]string
	// TrustedMetadata is merged at the top level; a key with a JSON null goes. nil: it stays.
	TrustedMetadata map[string]json.RawMessage
}

// Search asks for clients.
type Search struct {
	Cursor string // of an earlier page; empty: the first
	Limit  int    // 1 to MaxLimit
	Query  Query
}

// Query is a condition on clients: all of them where there are no operands.
type Query struct {
	Any      bool // any of the operands is enough (OR); else all must hold (AND)
	Operands []Operand
}

// Operand holds where the field has any of the values.
type Operand struct {
	Field  Field
	Values []string
}

// Field is what an operand looks at.
type Field string

// The fields. FieldScopes holds where the client has any of the values among its scopes.
const (
	FieldClientID   Field = "client_id"
	FieldClientName Field = "client_name"
	FieldScopes     Field = "scopes"
)

// Limits of a page, in clients.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Page is a part of what was found.
type Page struct {
	Clients    []Client
	Total      int    // found in all
	NextCursor string // empty: this is the last page
}

// Clients acts on the clients of a caller's project. An error that isn't a [*Problem]
// has an unknown cause, and is answered with an opaque 500.
type Clients interface {
	Create(ctx context.Context, by Caller, c Creation) (Changed, error)
	Get(ctx context.Context, by Caller, id string) (Client, error)
	Search(ctx context.Context, by Caller, s Search) (Page, error)
	Update(ctx context.Context, by Caller, id string, c Change) (Changed, error)
	Delete(ctx context.Context, by Caller, id string) (Changed, error)
	StartRotation(ctx context.Context, by Caller, id string) (Changed, error)
	Rotate(ctx context.Context, by Caller, id string) (Changed, error)
	CancelRotation(ctx context.Context, by Caller, id string) (Changed, error)
}

// VersionHeader is, in an answer, the Version of a change, a slash and the Namespace.
// Servers that forward calls wait for their watch to be as far, and take it out.
const VersionHeader = "M2m-Resource-Version"

// Problem is a refusal. Nothing in it is a secret.
type Problem struct {
	Status     int    // of HTTP
	Type       string // `error_type` of Stytch's API
	Message    string // for the caller: what happened, and what to do
	Reason     string // for the audit log alone; empty: Type
	RetryAfter time.Duration
}

// Error names the type and the reason. It is for the operator, not the caller.
func (p *Problem) Error() string {
	return strconv.Itoa(p.Status) + " " + p.Type + " (" + p.Reason + ")"
}

// Types of problems: Stytch's where they are known.
const (
	TypeUnauthorized     = "unauthorized_credentials"
	TypeForbidden        = "forbidden"
	TypeClientNotFound   = "m2m_client_not_found"
	TypeRouteNotFound    = "route_not_found"
	TypeMethodNotAllowed = "method_not_allowed"
	TypeTooManyRequests  = "too_many_requests"
	TypeBadRequest       = "bad_request"
	TypeInvalidArgument  = "invalid_argument"
	TypeInvalidCursor    = "invalid_cursor"
	TypeDuplicateID      = "duplicate_m2m_client_id"
	TypeConflict         = "conflict"
	TypeUnavailable      = "service_unavailable"
	TypeInternal         = "internal_server_error"
)

// NotFound is the one answer for clients that aren't there, and for those that the
// caller may not see.
func NotFound() *Problem {
	return &Problem{Status: http.StatusNotFound, Type: TypeClientNotFound, Message: "no M2M client of this project has this client_id"}
}
