package managementapi

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// Outcomes beside the types of problems.
const (
	outcomeOK      = "ok"
	outcomeAttempt = "attempt" // of a change that is about to be made
)

// What comes from callers is cut at these lengths, in bytes.
const (
	maxAuditedID   = 128
	maxAuditedName = 256
)

// auditLog is one line of JSON for each call, and another before a change.
type auditLog struct {
	mu    sync.Mutex // one Write at a time, whatever out is
	out   io.Writer
	logID func(string) string // what stands for an id that is nobody's
}

// auditLine says who did what, from where, and what came of it. It holds no secrets and
// nothing of what clients are.
type auditLine struct {
	Time       string `json:"time"`
	Event      string `json:"event"`
	RequestID  string `json:"request_id"`
	TraceID    string `json:"trace_id,omitempty"` // of a call that is followed
	ProjectID  string `json:"project_id"`         // of a project that there is
	Issuer     string `json:"issuer"`
	Caller     string `json:"caller"`
	Method     string `json:"method"`
	Credential string `json:"credential"` // the name of the project secret
	Action     string `json:"action"`
	ClientID   string `json:"client_id"`
	Found      *int   `json:"found,omitempty"` // by a search
	Outcome    string `json:"outcome"`
	Reason     string `json:"reason"` // the operator's alone
	Status     int    `json:"status"` // 0: not yet known
	Peer       string `json:"peer"`
	DurationUS int64  `json:"duration_us"`
}

func (a *auditLog) write(c *call, outcome string, elapsed time.Duration) error {
	line := auditLine{
		Time:       c.start.UTC().Format(time.RFC3339Nano),
		Event:      event,
		RequestID:  c.requestID(),
		TraceID:    c.traceID(),
		ProjectID:  c.caller.ProjectID,
		Issuer:     c.caller.Issuer,
		Caller:     cut(c.caller.User.Name, maxAuditedName),
		Method:     string(c.caller.Method),
		Credential: c.caller.Credential,
		Action:     string(c.action),
		ClientID:   c.auditedID(a.logID),
		Found:      c.found,
		Outcome:    outcome,
		Peer:       c.peer,
		DurationUS: elapsed.Microseconds(),
	}
	if outcome != outcomeAttempt {
		line.Status = http.StatusOK
	}
	if p := c.problem; p != nil {
		line.Status, line.Reason = p.Status, p.Reason
		if p.Reason == "" {
			line.Reason = p.Type
		}
	}
	text, err := encodeJSON(line)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.out.Write(append(text, '\n'))
	return err
}

// outcome is the type of the call's problem, or that it has none.
func (c *call) outcome() string {
	if c.problem != nil {
		return c.problem.Type
	}
	return outcomeOK
}

// auditedID is the client's id, or what stands for one that is nobody's, as far as is known.
func (c *call) auditedID(logID func(string) string) string {
	id := cut(c.clientID, maxAuditedID)
	if id == "" || c.known {
		return id
	}
	return logID(id)
}

func cut(s string, length int) string { return s[:min(len(s), length)] }
