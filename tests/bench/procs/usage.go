package procs

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what /proc counts processor time in; Linux has told programs 100 a
// second on every machine for as long as Go has run there.
const tick = time.Second / 100

// CPU returns the processor time that a process and its children have used so
// far, those that have ended included.
func CPU(pid int) (time.Duration, error) {
	total, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children(pid) {
		if d, err := CPU(child); err == nil { // it may have ended: then it is counted in ours
			total += d
		}
	}
	return total, nil
}

// cpuOf reads utime, stime, cutime and cstime, which stand after the name in
// brackets.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const utime, cstime = 11, 14
	if len(fields) <= cstime {
		return 0, fmt.Errorf("/proc/%d/stat: %q is too short", pid, text)
	}
	var ticks int64
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

func children(pid int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// RSS returns the resident memory of a process in bytes. With children it is the
// sum of what each has for itself and its share of what they have in common
// (Pss), so that PostgreSQL's shared buffers count once.
func RSS(pid int) int64 {
	if len(children(pid)) == 0 {
		return field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	}
	return pss(pid)
}

// Anonymous returns that part of the resident memory of one process, in bytes, that
// is its own: the rest is pages of its program, which the kernel reads again when
// they are needed, and keeps once for all who run it.
func Anonymous(pid int) int64 { return field(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:") }

func pss(pid int) int64 {
	total := field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
	for _, child := range children(pid) {
		total += pss(child)
	}
	return total
}

// field reads a line such as "VmRSS:  1234 kB", in bytes; 0 if there is none.
func field(path, name string) int64 {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// Sample returns those samples of a /metrics that have one of the names and no
// labels, or that of the process's own service.
func Sample(ctx context.Context, url string, names ...string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	found := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		name, _, _ := strings.Cut(series, "{")
		for _, want := range names {
			if name == want {
				found[name], _ = strconv.ParseFloat(value, 64)
			}
		}
	}
	return found, nil
}
