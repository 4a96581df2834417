package managementapi

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// The values of status.
const (
	statusActive   = "active"
	statusInactive = "inactive"
)

// answer is what a call that succeeds is answered with.
type answer struct {
	StatusCode      int              `json:"status_code"`
	RequestID       string           `json:"request_id"`
	Client          *clientAnswer    `json:"m2m_client,omitempty"`
	ClientID        string           `json:"client_id,omitempty"`
	Clients         []clientAnswer   `json:"m2m_clients,omitzero"`
	ResultsMetadata *resultsMetadata `json:"results_metadata,omitempty"`
}

// clientAnswer is Stytch's m2m_client.
type clientAnswer struct {
	ID              string                     `json:"client_id"`
	Secret          string                     `json:"client_secret,omitempty"`
	NextSecret      string                     `json:"next_client_secret,omitempty"`
	Name            string                     `json:"client_name"`
	Description     string                     `json:"client_description"`
	Status          string                     `json:"status"`
	Scopes          []string                   `json:"scopes"`
	SecretLastFour  string                     `json:"client_secret_last_four"`
	NextSecretLast  *string                    `json:"next_client_secret_last_four"`
	TrustedMetadata map[string]json.RawMessage `json:"trusted_metadata"`
}

// resultsMetadata is about a search.
type resultsMetadata struct {
	Total      int     `json:"total"`
	NextCursor *string `json:"next_cursor"`
}

// problemAnswer is an error of Stytch's API. It has no member named error: that is how the
// SDKs tell it from an answer of the token endpoint.
type problemAnswer struct {
	StatusCode int    `json:"status_code"`
	RequestID  string `json:"request_id"`
	Type       string `json:"error_type"`
	Message    string `json:"error_message"`
	URL        string `json:"error_url"`
}

func shown(c Client) clientAnswer {
	a := clientAnswer{
		ID: c.ID, Name: c.Name, Description: c.Description, Status: statusInactive, Scopes: c.Scopes,
		SecretLastFour: c.LastFour, NextSecretLast: orNull(c.NextLastFour), TrustedMetadata: c.TrustedMetadata,
	}
	if c.Active {
		a.Status = statusActive
	}
	if a.Scopes == nil {
		a.Scopes = []string{}
	}
	if a.TrustedMetadata == nil {
		a.TrustedMetadata = map[string]json.RawMessage{}
	}
	return a
}

func ofClient(c Client) *answer {
	a := shown(c)
	return &answer{Client: &a}
}

func ofChange(c Changed) *answer { return ofClient(c.Client) }

func ofDeletion(c Changed) *answer { return &answer{ClientID: c.Client.ID} }

func ofCreation(c Changed) *answer {
	a := ofClient(c.Client)
	a.Client.Secret = c.Secret
	return a
}

func ofRotationStart(c Changed) *answer {
	a := ofClient(c.Client)
	a.Client.NextSecret = c.Secret
	return a
}

func ofPage(p Page) *answer {
	a := &answer{Clients: make([]clientAnswer, 0, len(p.Clients)), ResultsMetadata: &resultsMetadata{p.Total, orNull(p.NextCursor)}}
	for _, c := range p.Clients {
		a.Clients = append(a.Clients, shown(c))
	}
	return a
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (a *answer) encode(requestID string) ([]byte, error) {
	a.StatusCode, a.RequestID = http.StatusOK, requestID
	return encodeJSON(a)
}

func encodeProblem(p *Problem, requestID string) []byte {
	body, _ := encodeJSON(problemAnswer{p.Status, requestID, p.Type, p.Message, ""}) // numbers and strings always encode
	return body
}

// requestID is in the form of Stytch's: a random UUID (RFC 9562 version 4), and what the
// project is for. Strangers don't learn that.
func (c *call) requestID() string {
	id := []byte("request-id-")
	if c.authenticated {
		if c.caller.Live {
			id = append(id, "live-"...)
		} else {
			id = append(id, "test-"...)
		}
	}
	random := c.random
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	for i, part := range [][]byte{random[:4], random[4:6], random[6:8], random[8:10], random[10:]} {
		if i > 0 {
			id = append(id, '-')
		}
		id = hex.AppendEncode(id, part)
	}
	return string(id)
}

// write sends the answer, which nobody may keep.
func write(w http.ResponseWriter, c *call, body []byte) {
	header, status := w.Header(), http.StatusOK
	if c.problem != nil {
		status = c.problem.Status
		describe(header, c)
	}
	if c.version != 0 {
		header.Set(VersionHeader, strconv.FormatUint(c.version, 10)+"/"+c.namespace)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}

// describe sets the headers that belong to a problem.
func describe(header http.Header, c *call) {
	switch c.problem.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Basic realm="management API", Bearer`)
	case http.StatusMethodNotAllowed:
		header.Set("Allow", c.allow)
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		header.Set("Connection", "close") // what is left of the body isn't wanted
	}
	if c.problem.RetryAfter > 0 || c.problem.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", seconds(c.problem.RetryAfter))
	}
}

// seconds is a time as Retry-After says it (RFC 9110 section 10.2.3): whole seconds, and
// never none.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
