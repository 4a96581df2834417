package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/m2m-operator/m2m-operator/test/installation"
)

// auditPolicy logs what the operator's ServiceAccounts ask for, when it is answered.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts:` + installation.Namespace + `"]
    verbs: [get, create, update, patch, delete, deletecollection]
  - level: None
`

// apiAudit is the audit log of the API server.
type apiAudit struct{ log string }

func newAPIAudit(dir string) (apiAudit, []string, error) {
	policy, log := filepath.Join(dir, "audit-policy.yaml"), filepath.Join(dir, "audit.log")
	return apiAudit{log}, []string{
		"--audit-policy-file=" + policy,
		"--audit-log-path=" + log,
		"--audit-log-maxsize=100000", // one file
	}, os.WriteFile(policy, []byte(auditPolicy), 0o600)
}

// call is what a role asked of the API server.
type call struct {
	Role, Verb, Resource string
}

// isWrite: questions about one's own permissions are created, and stored nowhere.
func (c call) isWrite() bool { return c.Verb != "get" && !strings.HasSuffix(c.Resource, "reviews") }

func (c call) compare(d call) int {
	return cmp.Or(strings.Compare(c.Role, d.Role), strings.Compare(c.Resource, d.Resource), strings.Compare(c.Verb, d.Verb))
}

// answered is a call, how it was answered, and when.
type answered struct {
	call
	at     time.Time
	failed bool
}

// auditEvent is what is read of a line of the log.
type auditEvent struct {
	Verb      string
	User      struct{ Username string }
	ObjectRef struct{ Resource, Subresource string }

	ResponseStatus struct{ Code int }
	StageTimestamp time.Time
}

// read returns what was asked from a time on.
func (a apiAudit) read(since time.Time) ([]answered, error) {
	file, err := os.Open(a.log)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nobody asked for anything
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []answered
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil // what has no end is just being written
		} else if err != nil {
			return nil, err
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("the API server's audit log: %w", err)
		}
		if !e.StageTimestamp.Before(since) {
			all = append(all, e.answered())
		}
	}
}

func (e *auditEvent) answered() answered {
	a := answered{at: e.StageTimestamp, failed: e.ResponseStatus.Code >= 400}
	a.Role = e.User.Username[strings.LastIndexAny(e.User.Username, "-:")+1:]
	a.Verb, a.Resource = e.Verb, e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		a.Resource += "/" + e.ObjectRef.Subresource
	}
	return a
}

// tally is how often something was asked for, and how often in vain.
type tally struct{ all, failed int }

func count(calls []answered) map[call]tally {
	counts := map[call]tally{}
	for _, a := range calls {
		n := counts[a.call]
		n.all++
		if a.failed {
			n.failed++
		}
		counts[a.call] = n
	}
	return counts
}

// printCalls lists calls, with how many there were for each of a number of things.
func printCalls(counts map[call]tally, each string, number float64) error {
	var calls []call
	for c := range counts {
		calls = append(calls, c)
	}
	slices.SortFunc(calls, call.compare)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "  role\tresource\tverb\tnumber\tfor a %s\tof them refused\n", each)
	for _, c := range calls {
		n := counts[c]
		fmt.Fprintf(table, "  %s\t%s\t%s\t%d\t%.3f\t%d\n", c.Role, c.Resource, c.Verb, n.all, float64(n.all)/number, n.failed)
	}
	return table.Flush()
}
