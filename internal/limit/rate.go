// Package limit counts the authentications that fail, and says when there were too many.
// It is pure: the clock is a parameter.
package limit

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Rate allows Burst at once, and as many again in each Per. The zero Rate sets no limit.
type Rate struct {
	Burst int
	Per   time.Duration
}

// Bounds of a rate, which keep its arithmetic far from overflowing.
const (
	maxBurst = 1_000_000
	minPer   = time.Second
	maxPer   = 24 * time.Hour
)

// errRate says what a rate looks like, and quotes nothing.
var errRate = errors.New(`a rate is a number and a time, such as 20/1m: from 1 to 1000000 in 1s to 24h; "off" or 0 sets no limit`)

// ParseRate reads a rate such as 20/1m; 0 and off are the zero Rate.
func ParseRate(s string) (Rate, error) {
	if s == "0" || s == "off" {
		return Rate{}, nil
	}
	number, interval, ok := strings.Cut(s, "/")
	burst, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || burst < 1 || burst > maxBurst {
		return Rate{}, errRate
	}
	per, err := time.ParseDuration(interval)
	if err != nil || per < minPer || per > maxPer {
		return Rate{}, errRate
	}
	return Rate{Burst: int(burst), Per: per}, nil
}

// Times returns a rate that allows n times as many.
func (r Rate) Times(n int) Rate { return Rate{r.Burst * n, r.Per} }

// IsZero tells whether the rate sets no limit.
func (r Rate) IsZero() bool { return r == Rate{} }

// pace is a rate as the generic cell rate algorithm counts (ITU-T I.371): one moment says
// all that there is to remember, the theoretical arrival time of the next.
type pace struct {
	interval int64 // between two that come evenly, in nanoseconds
	burst    int64 // how far ahead of now the arrival time may come, in nanoseconds
}

func (r Rate) pace() pace {
	interval := (int64(r.Per) + int64(r.Burst) - 1) / int64(r.Burst)
	return pace{interval, interval * int64(r.Burst)}
}

// next returns the arrival time after one more at now; or, where that one comes too early,
// by how much, and the arrival time as it is. After a clock was set back, that is as late
// as it can be.
func (p pace) next(arrival, now int64) (after, early int64) {
	arrival = min(max(arrival, now), now+p.burst)
	if early = arrival + p.interval - p.burst - now; early > 0 {
		return arrival, early
	}
	return arrival + p.interval, 0
}
