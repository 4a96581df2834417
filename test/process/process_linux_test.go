package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/m2m-operator/m2m-operator/test/eventually"
)

const parentLog = "PROCESS_TEST_PARENT_LOG"

// TestMain lets the test binary be a parent that can be killed.
func TestMain(m *testing.M) {
	if log := os.Getenv(parentLog); log != "" {
		child, err := Start("sleep", log, exec.Command("sleep", "60"))
		if err != nil {
			panic(err)
		}
		fmt.Println(child.PID)
		<-child.Done()
	}
	os.Exit(m.Run())
}

func TestChildDiesWithKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentLog+"="+filepath.Join(t.TempDir(), "log"))
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(stdout, &child); err != nil {
		t.Fatal(err)
	}
	if !running(child) {
		t.Fatal("the child isn't running")
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	eventually.Right(t, func() string {
		if running(child) {
			return "the child outlives its parent"
		}
		return ""
	})
}

func TestStopByForce(t *testing.T) {
	p, err := Start("stubborn", filepath.Join(t.TempDir(), "log"), exec.Command("sh", "-c", "trap '' TERM; echo ready; sleep 60 & wait"))
	if err != nil {
		t.Fatal(err)
	}
	eventually.Right(t, func() string {
		if tail := LogTail(p.Log); !strings.Contains(tail, "ready") {
			return tail
		}
		return ""
	})
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	p.Stop(100 * time.Millisecond)
	if running(p.PID) {
		t.Error("it still runs")
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err() = %v; want how it ended", err)
	}
}

// running is false for a zombie: nobody may be there to wait for an orphan. A
// command line doesn't tell: a program has none in the moment when it is loaded.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, fields, _ := strings.Cut(string(stat), ") ") // what comes before is the program's name
	return !strings.HasPrefix(fields, "Z") && !strings.HasPrefix(fields, "X")
}
