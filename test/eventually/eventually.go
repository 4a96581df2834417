// Package eventually lets tests wait for what comes true in its own time.
package eventually

import (
	"errors"
	"testing"
	"time"
)

// Patience is how long anything may take. It says nothing about speed: the machine
// may be busy, and only a test that fails waits that long.
const Patience = 3 * time.Minute

const pause = 20 * time.Millisecond

// Right waits until problem returns "". If it never does, it ends the test with what
// problem returned last.
func Right(t testing.TB, problem func() string) {
	t.Helper()
	Succeeds(t, func() error {
		if what := problem(); what != "" {
			return errors.New(what)
		}
		return nil
	})
}

// Succeeds waits until check returns no error. If it never does, it ends the test with
// the last one.
func Succeeds(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(pause) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
