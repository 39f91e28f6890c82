package app

import (
	"fmt"
	"os"
	"os/exec"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestABusyProcessHasSlackAndNoMore(t *testing.T) {
	now := time.Now()
	c := &collections{last: now}
	for i := range row - 1 {
		if got := c.percent(now, least); got != 100 {
			t.Fatalf("after %d collections, as of a start: got %d", i+1, got)
		}
	}
	for alive, want := range map[uint64]int{8 << 20: 400, 0: 800 /* or least would be many times the slack */, 32 << 20: 100, 1 << 30: 100} {
		if got := c.percent(now.Add(soon), alive); got != want {
			t.Errorf("%d alive: got %d, want %d", alive, got, want)
		}
	}
	if got := c.percent(c.last.Add(2*soon), least); got != 100 {
		t.Errorf("at rest: got %d", got)
	}
}

// TestABusyProcessCollectsSeldom runs itself as a process that makes garbage.
func TestABusyProcessCollectsSeldom(t *testing.T) {
	if os.Getenv("MAKE_GARBAGE") != "" {
		relaxCollections()
		fmt.Println(percentAfter(300 << 20))
		os.Exit(0)
	}
	for gogc, relaxed := range map[string]bool{"": true, "150": false} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "MAKE_GARBAGE=1", "GOGC="+gogc)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil || relaxed && got <= 100 || !relaxed && got != 150 {
			t.Errorf("with GOGC=%q: %q", gogc, out)
		}
	}
}

var sink []byte

// percentAfter makes so many bytes of garbage, and more for as long as a minute if
// that has changed nothing, and returns what GOGC is then.
func percentAfter(size int) uint64 {
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gogc)
	before := gogc[0].Value.Uint64()
	for end := time.Now().Add(time.Minute); size > 0 || before == 100 && gogc[0].Value.Uint64() == before && time.Now().Before(end); size -= 1 << 20 {
		for range 1 << 10 {
			sink = make([]byte, 1<<10)
		}
		metrics.Read(gogc)
	}
	return gogc[0].Value.Uint64()
}
