// Package outcome is what the program caller tells the end-to-end tests.
package outcome

import "time"

// Outcome is how one call ended: a token was asked for, and a service called with it.
type Outcome struct {
	Caller string    `json:"caller"` // what it is, by its flag
	Pod    string    `json:"pod"`
	Secret string    `json:"secret,omitempty"` // the last four characters of the client_secret
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	// What failed, TokenRequest or Call; empty where nothing did.
	Failed string `json:"failed,omitempty"`
	// The HTTP status of the answer that was no success; 0 where there was none.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// The two steps that can fail.
const (
	TokenRequest = "token request"
	Call         = "call"
)
