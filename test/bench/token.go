package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// tokenResult is the outcome for one number of clients.
type tokenResult struct {
	Clients      int     `json:"clients"`
	Floor        float64 `json:"floor_tokens_per_cpu_second"` // median
	Ours         float64 `json:"tokens_per_cpu_second"`       // median
	Ratio        float64 `json:"ratio"`                       // median of the ratios of pairs
	RatioLowest  float64 `json:"ratio_lowest"`
	RatioHighest float64 `json:"ratio_highest"`
}

// runToken runs the floor and the product in turn on one core, with the load
// generator on another, and compares tokens per CPU-second pair by pair: these
// machines vary more from minute to minute than the two differ.
func runToken(args []string) error {
	flags := newFlags("token")
	pairs := flags.Int("pairs", 12, "interleaved pairs")
	each := flags.Duration("each", time.Second, "length of one measurement")
	connections := flags.Int("connections", 8, "keep-alive connections")
	many := flags.Int("clients", 100_000, "clients in the index, beside the run with one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	serverCore, loadCore := 1%runtime.NumCPU(), 0
	runtime.GOMAXPROCS(1)
	if err := pinProcess(loadCore); err != nil {
		return err
	}
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, s := range []*server{{kind: "floor", clients: 1}, {kind: "m2m", clients: 1}, {kind: "m2m", clients: *many}} {
		if err := s.start(serverCore); err != nil {
			return err
		}
		servers = append(servers, s)
		if _, err := s.tokensPerCPUSecond(*connections, *each/2); err != nil { // warm up
			return err
		}
	}
	rates, err := interleave(servers, *pairs, *connections, *each)
	if err != nil {
		return err
	}
	return report([]tokenResult{compare(1, rates[0], rates[1]), compare(*many, rates[0], rates[2])}, rates)
}

// interleave measures each server once a round; even and odd rounds go in opposite
// orders, so that a drift of the machine favours nobody.
func interleave(servers []*server, rounds, connections int, each time.Duration) ([][]float64, error) {
	rates := make([][]float64, len(servers))
	order := []int{0, 1, 2}
	for range rounds {
		for _, i := range order {
			rate, err := servers[i].tokensPerCPUSecond(connections, each)
			if err != nil {
				return nil, err
			}
			rates[i] = append(rates[i], rate)
		}
		slices.Reverse(order)
	}
	return rates, nil
}

func compare(clients int, floor, ours []float64) tokenResult {
	var ratios []float64
	for i := range floor {
		ratios = append(ratios, ours[i]/floor[i])
	}
	return tokenResult{
		Clients: clients, Floor: median(floor), Ours: median(ours),
		Ratio: median(ratios), RatioLowest: slices.Min(ratios), RatioHighest: slices.Max(ratios),
	}
}

func report(results []tokenResult, rates [][]float64) error {
	fmt.Println("Token endpoint, ES256, one core, net/http, keep-alive; the product with audit line (to a file) and metrics.")
	fmt.Println("Tokens per CPU-second (user and system) of the server process:")
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "pair\tfloor\tm2m, %d client\tratio\tm2m, %d clients\tratio\t\n", results[0].Clients, results[1].Clients)
	for i, floor := range rates[0] {
		fmt.Fprintf(table, "%d\t%.0f\t%.0f\t%.3f\t%.0f\t%.3f\t\n", i+1, floor, rates[1][i], rates[1][i]/floor, rates[2][i], rates[2][i]/floor)
	}
	fmt.Fprintf(table, "median\t%.0f\t%.0f\t%.3f\t%.0f\t%.3f\t\n",
		results[0].Floor, results[0].Ours, results[0].Ratio, results[1].Ours, results[1].Ratio)
	if err := table.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"benchmark": "token", "results": results})
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
