package catalogue

import (
	"syscall"
	"testing"
)

// cpu is the time that this process has used, in nanoseconds: on a machine that others
// use too, it says more than the clock.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func report(b *testing.B, start int64) {
	b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
}
