package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/internal/keyring"
	"github.com/m2m-operator/m2m-operator/internal/token"
)

// refusal is why a request is refused. Callers must not be able to tell, by the time it
// takes either.
type refusal struct {
	name      string
	reason    string                            // that the audit log has
	algorithm keyring.Algorithm                 // of an assertion with junk for a signature; empty: a secret is presented
	wrong     bool                              // another client's secret is
	client    func(c *v1alpha1.M2MClient) error // makes the client what it is; nil: there is none
}

// refusals begin, for each way to authenticate, with the unknown client.
var refusals = append([]refusal{
	{name: "unknown client", reason: "unknown_client"},
	{name: "wrong secret", reason: "wrong_secret", wrong: true, client: func(*v1alpha1.M2MClient) error { return nil }},
	{name: "inactive client, right secret", reason: "inactive", client: func(c *v1alpha1.M2MClient) error {
		c.Spec.State = v1alpha1.ClientInactive
		return nil
	}},
	{name: "another issuer's client, right secret", reason: "unknown_client", client: func(c *v1alpha1.M2MClient) error {
		c.Spec.IssuerRef = &v1alpha1.IssuerReference{Name: otherIssuer}
		return nil
	}},
	{name: wrongSecretOfThree, reason: "wrong_secret", wrong: true, client: func(*v1alpha1.M2MClient) error { return nil }},
}, assertionRefusals()...)

// wrongSecretOfThree is refused by a client whose record has three versions.
const wrongSecretOfThree = "wrong secret of a client with three versions"

// refusalOf is what the n-th client is there for.
func refusalOf(n int) *refusal { return &refusals[n%len(refusals)] }

// probing is a series of requests that are refused.
type probing struct {
	times   int // of each kind
	clients int // of each kind, asked for in turn
}

// runRefusal measures how long a refusal takes: in the authority alone, and at a caller
// with one request at a time. One client that is asked for again and again is in the
// processor's caches; of many clients in turn, none is.
func runRefusal(args []string) error {
	flags := newFlags("refusal")
	times := flags.Int("times", 100_000, "requests of each kind, up to 10 million")
	many := flags.Int("clients", 1000, "clients of each kind, which are asked for in turn, beside the run with one; up to 100 000")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *times < 1 || *times > 10_000_000 || *many < 1 || *many > 100_000 {
		return errors.New("-times or -clients is out of bounds")
	}
	ours, core := cores()
	runtime.GOMAXPROCS(1)
	if err := pinProcess(ours); err != nil {
		return err
	}
	var results []refusalResult
	for _, clients := range []int{1, *many} {
		p := probing{*times, clients}
		decided, err := p.timeDecisions()
		if err != nil {
			return err
		}
		answered, err := p.timeAnswers(core)
		if err != nil {
			return err
		}
		results = append(results,
			refusalResult{"the authority alone", clients, summarize(decided)},
			refusalResult{"a caller with one request at a time, over one connection", clients, summarize(answered)})
	}
	return reportRefusals(results)
}

func (p probing) setup() setup {
	return setup{Kind: "m2m", Algorithm: keyring.ES256, Clients: p.clients * len(refusals), Refusals: true}
}

// request is what a round presents. It is the same work for each of a kind.
func (p probing) request(n, round int) token.Request {
	client := round%p.clients*len(refusals) + n
	r := token.Request{GrantType: "client_credentials", Scope: "read:settings"}
	id, right := credentialOf(client)
	_, other := credentialOf(client + 1)
	switch why := &refusals[n]; {
	case why.algorithm != "":
		r.AssertionType, r.Assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", junkAssertion(why.algorithm, id)
	case why.wrong:
		r.ClientID, r.ClientSecret = id, other
	default:
		r.ClientID, r.ClientSecret = id, right
	}
	return r
}

// timeDecisions times the authority in this process.
func (p probing) timeDecisions() ([][]time.Duration, error) {
	s := p.setup()
	directory, err := s.newDirectory()
	if err != nil {
		return nil, err
	}
	issuer, _ := directory.Issuer(projectID)
	authority := token.NewAuthority(directory, rand.Reader)
	return inTurn(p.times, func(refusal, round int) (time.Duration, error) {
		r := p.request(refusal, round)
		now := time.Now()
		_, err := authority.Authorize(now, issuer, &r)
		took := time.Since(now)
		if e, ok := errors.AsType[*token.Error](err); !ok || e.Reason != refusals[refusal].reason {
			return 0, fmt.Errorf("%s: %w", refusals[refusal].name, err)
		}
		return took, nil
	})
}

// timeAnswers times requests to a server on another core.
func (p probing) timeAnswers(core int) ([][]time.Duration, error) {
	s := server{setup: p.setup()}
	if err := s.start(core); err != nil {
		return nil, err
	}
	defer s.stop()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	return inTurn(p.times, func(refusal, round int) (time.Duration, error) {
		asked := p.request(refusal, round)
		r := secretRequest(asked.ClientID, asked.ClientSecret)
		if asked.Assertion != "" {
			r = assertionRequest(asked.Assertion)
		}
		text := r.append(nil, false)
		start := time.Now()
		if err := conn.SetDeadline(start.Add(stuck)); err != nil {
			return 0, err
		}
		if _, err := conn.Write(text); err != nil {
			return 0, err
		}
		status, body, err := readAnswer(answers)
		took := time.Since(start)
		if err == nil && status != "HTTP/1.1 401 Unauthorized" {
			err = fmt.Errorf("%s was answered with %s: %s", refusals[refusal].name, status, body)
		}
		return took, err
	})
}

// inTurn measures each refusal once a round, in an order that is drawn for each.
func inTurn(rounds int, measure func(refusal, round int) (time.Duration, error)) ([][]time.Duration, error) {
	took := make([][]time.Duration, len(refusals))
	for i := range took {
		took[i] = make([]time.Duration, 0, rounds)
	}
	warmUp := min(rounds, 2000)
	for round := range warmUp + rounds {
		for _, refusal := range mathrand.Perm(len(refusals)) {
			d, err := measure(refusal, round)
			if err != nil {
				return nil, err
			}
			if round >= warmUp {
				took[refusal] = append(took[refusal], d)
			}
		}
	}
	return took, nil
}

// refusalResult is how long refusals took in one place.
type refusalResult struct {
	Where    string           `json:"where"`
	Clients  int              `json:"clients"` // of each kind
	Refusals []refusalSummary `json:"refusals"`
}

type refusalSummary struct {
	Name       string  `json:"name"`
	Lower      float64 `json:"lower_quartile_us"`
	Median     float64 `json:"median_us"`
	Upper      float64 `json:"upper_quartile_us"`
	Difference float64 `json:"median_from_unknown_percent"`
}

func summarize(took [][]time.Duration) []refusalSummary {
	var all []refusalSummary
	unknown := 0
	for i, durations := range took {
		if refusals[i].client == nil {
			unknown = i
		}
		slices.Sort(durations)
		at := func(part float64) float64 {
			return float64(durations[int(part*float64(len(durations)-1))]) / float64(time.Microsecond)
		}
		s := refusalSummary{Name: refusals[i].name, Lower: at(0.25), Median: at(0.5), Upper: at(0.75)}
		all = append(all, s)
		all[i].Difference = 100 * (s.Median/all[unknown].Median - 1)
	}
	return all
}

func reportRefusals(results []refusalResult) error {
	for _, r := range results {
		fmt.Printf("Time to refuse, in µs, at %s; clients of each kind: %d\n", r.Where, r.Clients)
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "\tlower quartile\tmedian\tupper quartile\tfrom the unknown client's median\t")
		for _, s := range r.Refusals {
			fmt.Fprintf(table, "%s\t%.2f\t%.2f\t%.2f\t%+.2f %%\t\n", s.Name, s.Lower, s.Median, s.Upper, s.Difference)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"benchmark": "refusal", "results": results})
}
