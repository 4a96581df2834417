package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// contest runs floors and products in turn on one core, with the load generator on
// another, and compares tokens per CPU-second pair by pair: these machines vary more
// from minute to minute than the two differ.
type contest struct {
	name        string
	pairs       int
	each        time.Duration
	connections int
	profiles    string
}

// match is a product and the floor that it is compared with.
type match struct {
	name        string
	method      method
	floor, ours setup
}

// newContest returns a contest, and the flags that it is set by.
func newContest(name string) (*contest, *flag.FlagSet) {
	c, flags := &contest{name: name}, newFlags(name)
	flags.IntVar(&c.pairs, "pairs", 12, "interleaved pairs, up to 1000")
	flags.DurationVar(&c.each, "each", time.Second, "length of one measurement, up to 1m")
	flags.IntVar(&c.connections, "connections", 8, "requests at a time, up to 256")
	flags.StringVar(&c.profiles, "profiles", "", "`folder` that CPU profiles of the servers are written to")
	return c, flags
}

// cores are that of the load generator and that of the servers.
func cores() (ours, servers int) { return 0, 1 % runtime.NumCPU() }

// run measures all matches, and prints how they came out.
func (c *contest) run(about string, matches []match) error {
	if c.pairs < 1 || c.pairs > 1000 || c.each <= 0 || c.each > time.Minute || c.connections < 1 || c.connections > 256 {
		return errors.New("-pairs, -each or -connections is out of bounds")
	}
	loadCore, serverCore := cores()
	runtime.GOMAXPROCS(1)
	if err := pinProcess(loadCore); err != nil {
		return err
	}
	pairs, stop, err := c.start(matches, serverCore)
	defer stop()
	if err != nil {
		return err
	}
	rates, err := c.interleave(pairs)
	if err != nil {
		return err
	}
	var results []result
	for i := range matches {
		results = append(results, compare(matches[i].name, rates[i][0], rates[i][1]))
	}
	return report(c.name, about, results)
}

// start starts and warms up the servers: for each match its floor and its product.
// stop ends those that were started, also after an error.
func (c *contest) start(matches []match, core int) (pairs [][2]*server, stop func(), err error) {
	var started []*server
	stop = func() {
		for _, s := range started {
			s.stop()
		}
	}
	for i := range matches {
		m := &matches[i]
		pair := [2]*server{{setup: m.floor, method: m.method}, {setup: m.ours, method: m.method}}
		for _, s := range pair {
			if c.profiles != "" {
				s.Profile = filepath.Join(c.profiles, fmt.Sprintf("%s-%d-%s.pprof", c.name, i+1, s.Kind))
			}
			if err := s.start(core); err != nil {
				return nil, stop, err
			}
			started = append(started, s)
			if _, err := s.tokensPerCPUSecond(c.connections, c.each/2); err != nil {
				return nil, stop, fmt.Errorf("%s: %w", m.name, err)
			}
		}
		pairs = append(pairs, pair)
	}
	return pairs, stop, nil
}

// interleave measures each pair once a round; even and odd rounds go in opposite
// orders, so that a drift of the machine favours nobody.
func (c *contest) interleave(pairs [][2]*server) ([][2][]float64, error) {
	rates := make([][2][]float64, len(pairs))
	order := []int{0, 1}
	for range c.pairs {
		for p := range pairs {
			for _, i := range order {
				rate, err := pairs[p][i].tokensPerCPUSecond(c.connections, c.each)
				if err != nil {
					return nil, err
				}
				rates[p][i] = append(rates[p][i], rate)
			}
		}
		slices.Reverse(order)
	}
	return rates, nil
}

// result is how a match came out.
type result struct {
	Name         string  `json:"name"`
	Floor        float64 `json:"floor_tokens_per_cpu_second"` // median
	Ours         float64 `json:"tokens_per_cpu_second"`       // median
	Ratio        float64 `json:"ratio"`                       // median of the ratios of pairs
	RatioLowest  float64 `json:"ratio_lowest"`
	RatioHighest float64 `json:"ratio_highest"`
}

func compare(name string, floor, ours []float64) result {
	var ratios []float64
	for i := range floor {
		ratios = append(ratios, ours[i]/floor[i])
	}
	return result{
		Name: name, Floor: median(floor), Ours: median(ours),
		Ratio: median(ratios), RatioLowest: slices.Min(ratios), RatioHighest: slices.Max(ratios),
	}
}

func report(benchmark, about string, results []result) error {
	fmt.Println(about + "; one core, net/http; the product with audit line (to a file) and metrics.")
	fmt.Println("Tokens per CPU-second (user and system) of the server process, medians; ratios of pairs:")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tfloor\tm2m\tratio\tlowest\thighest\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.3f\t%.3f\t%.3f\t\n", r.Name, r.Floor, r.Ours, r.Ratio, r.RatioLowest, r.RatioHighest)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"benchmark": benchmark, "results": results})
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
