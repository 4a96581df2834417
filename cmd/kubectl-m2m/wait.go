package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
)

// waiting is whether a command waits for what it asked for, and how long.
type waiting struct {
	on      bool
	timeout time.Duration
}

func (w *waiting) addFlags(cmd *cobra.Command, byDefault bool, what string) {
	cmd.Flags().BoolVar(&w.on, "wait", byDefault, "wait "+what)
	cmd.Flags().DurationVar(&w.timeout, "timeout", 2*time.Minute, "how long to wait")
}

// pollEvery is how often an object is looked at that is waited for.
const pollEvery = 200 * time.Millisecond

// look says whether an object is as it is waited for, and else what it waits for. An
// error says that it never will be.
type look func(*v1alpha1.M2MClient) (done bool, state string, err error)

// client waits until a client is as look wants it. One that is deleted, or deleted and
// made again, is waited for no longer.
func (w *waiting) client(ctx context.Context, k *kube, cluster client.Reader, key client.ObjectKey, uid types.UID, look look) (*v1alpha1.M2MClient, error) {
	c := &v1alpha1.M2MClient{}
	err := w.until(ctx, k, key.String(), func(ctx context.Context) (bool, string, error) {
		c = &v1alpha1.M2MClient{}
		if err := cluster.Get(ctx, key, c); err != nil {
			return unread(notThere(err, key), err)
		}
		if c.UID != uid {
			return false, "", errors.New("it was deleted, and made again")
		}
		return look(c)
	})
	return c, err
}

// unread tells what becomes of a wait when the API server doesn't answer: only what it
// won't answer later either ends it.
func unread(said, err error) (done bool, state string, end error) {
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return false, "", said
	}
	return false, err.Error(), nil
}

// until looks again and again, and shows what is waited for.
func (w *waiting) until(ctx context.Context, k *kube, what string, look func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	show := &progress{w: k.ErrOut, terminal: isTerminal(k.ErrOut)}
	defer show.end()
	last := "nothing is known of it yet"
	for {
		done, state, err := look(ctx)
		if ctx.Err() == nil {
			if done || err != nil {
				return err
			}
			last = clean(state)
			show.say(fmt.Sprintf("Waiting for %s: %s", what, last))
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not done after %v, and it goes on by itself when it can: %s", w.timeout, last)
			}
			return errors.New("waiting was stopped, and it goes on without")
		}
	}
}

// progress shows how far something is: on a terminal in one line that changes, else in
// a line for each change.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
}

func (p *progress) say(line string) {
	if line == p.last {
		return
	}
	p.last = line
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", cut(line, 79))
		return
	}
	fmt.Fprintln(p.w, line)
}

// end takes the line away.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// isTerminal tells whether a person is at the other end.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a device for characters too, with nobody there
	return err != nil || !os.SameFile(info, null)
}

// ready says whether a client is what its manifest says.
func ready(c *v1alpha1.M2MClient) (done bool, state string, err error) {
	condition := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case condition == nil || c.Status.ObservedGeneration != c.Generation:
		return false, "the operator has not seen it yet", nil
	case condition.Status != "True":
		return false, condition.Reason + ": " + condition.Message, nil
	}
	return true, "", nil
}

// readyOrStalled is ready, and an error for a client that waits for a person.
func readyOrStalled(c *v1alpha1.M2MClient) (done bool, state string, err error) {
	done, state, err = ready(c)
	if !done && c.Status.ObservedGeneration == c.Generation && meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionStalled) {
		return false, "", fmt.Errorf("it is not ready: %s", clean(state))
	}
	return done, state, err
}

// afterwards is the error of a wait behind a change that was made.
func afterwards(err error, key client.ObjectKey, done string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("M2MClient %s was %s, but %w", key, done, err)
}
