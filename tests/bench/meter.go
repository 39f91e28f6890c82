package main

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshmart/meshmart/tests/bench/drive"
	"github.com/meshmart/meshmart/tests/bench/procs"
)

// meter tells what processes use while they are called.
type meter struct {
	procs   []*procs.Proc
	settles bool
	idle    float64 // share of a processor that is used when nobody calls
}

// use is what was used, of each process by its name.
type use struct {
	cpu, allocs map[string]float64
	rss         map[string]int64
}

// during runs a load. Allocations are asked for before and after the time that
// is measured, and what the asking itself allocates is taken off.
func (m meter) during(ctx context.Context, load func() *drive.Load) (*drive.Load, use) {
	first := m.allocated(ctx)
	before := m.allocated(ctx)
	own, cpu := mallocs(), m.cpu()
	l := load()
	ownCPU, made := ownCPU()-cpu[loader], mallocs()-own // looking for rest is no part of it
	if m.settles {
		m.rest(ctx)
	}
	used := use{cpu: map[string]float64{}, allocs: map[string]float64{}, rss: map[string]int64{}}
	calls := float64(max(l.Calls+l.Failed, 1))
	for name, d := range m.cpu() {
		used.cpu[name] = float64((d - cpu[name]).Microseconds()) / calls
	}
	used.cpu[loader], used.allocs[loader] = float64(ownCPU.Microseconds())/calls, float64(made)/calls
	for name, n := range m.allocated(ctx) {
		used.allocs[name] = max(0, n-before[name]-(before[name]-first[name])) / calls
	}
	for _, p := range m.procs {
		used.rss[p.Name] = procs.RSS(p.PID)
	}
	used.rss[loader] = procs.RSS(os.Getpid())
	return l, used
}

// cpu is the time that each process has used so far.
func (m meter) cpu() map[string]time.Duration {
	all := map[string]time.Duration{loader: ownCPU()}
	for _, p := range m.procs {
		if d, err := procs.CPU(p.PID); err == nil {
			all[p.Name] = d
		}
	}
	return all
}

func ownCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // it has no error with these
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func mallocs() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Mallocs
}

// allocated is how many objects each process has made, as far as they tell.
func (m meter) allocated(ctx context.Context) map[string]float64 {
	const total = "go_memstats_mallocs_total"
	all := map[string]float64{}
	for _, p := range m.procs {
		if p.Metrics == "" {
			continue
		}
		if s, err := procs.Sample(ctx, p.Metrics, total); err == nil && s[total] > 0 {
			all[p.Name] = s[total]
		}
	}
	return all
}

// Processes are at rest when, for a while, they have used hardly more than they do
// when nobody calls.
const (
	restShare = 0.06 // of a processor, more than that
	restFor   = 200 * time.Millisecond
	restLimit = 15 * time.Second
	idleFor   = time.Second
)

// rest waits until the processes are at rest.
func (m meter) rest(ctx context.Context) {
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < restLimit; {
		if m.share(restFor) < m.idle+restShare {
			return
		}
	}
}

// share is how much of a processor is used for a while.
func (m meter) share(d time.Duration) float64 {
	before, start := m.servers(), time.Now()
	time.Sleep(d)
	return float64(m.servers()-before) / float64(time.Since(start))
}

// servers is what all processes but this one have used.
func (m meter) servers() time.Duration {
	var total time.Duration
	for name, d := range m.cpu() {
		if name != loader {
			total += d
		}
	}
	return total
}

// machine tells what this is.
func machine() Machine {
	m := Machine{Cores: runtime.GOMAXPROCS(0), Go: runtime.Version()}
	for line := range strings.Lines(text("/proc/cpuinfo")) {
		if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
			m.CPU = strings.TrimSpace(name)
		}
	}
	if fields := strings.Fields(text("/proc/meminfo")); len(fields) > 1 {
		m.Memory, _ = strconv.ParseInt(fields[1], 10, 64)
		m.Memory <<= 10
	}
	m.Kernel = strings.TrimSpace(text("/proc/sys/kernel/osrelease"))
	if fields := strings.Fields(text("/proc/loadavg")); len(fields) > 0 {
		m.Load, _ = strconv.ParseFloat(fields[0], 64)
	}
	return m
}

// text is that of a file, or nothing.
func text(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
