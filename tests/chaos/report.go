package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meshmart/meshmart/tests/audit"
)

// Report is what a campaign came to.
type Report struct {
	Config     Config
	Took, Rest time.Duration  // under fire, and from then until all was at rest
	Faults     map[string]int // by kind
	Replies    map[int]int    // by HTTP status; 0 is none
	Summary    audit.Summary
	Violations []string

	answers   []answer
	waited    []time.Duration // for each answer
	ready     []time.Duration // from a kill to the replica being ready again
	recovered []time.Duration // from a kill to all orders of then being decided
	last      string          // fault
}

func newReport(cfg Config) Report {
	return Report{Config: cfg, Faults: map[string]int{}, Replies: map[int]int{}}
}

func (r *Report) answered(a answer, after time.Duration) {
	r.answers = append(r.answers, a)
	r.waited = append(r.waited, after)
}

func (r *Report) reply(code int) { r.Replies[code]++ }

func (r *Report) violated(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// progress is the report so far, in one line.
func (r *Report) progress() string {
	of := ""
	if r.Config.For == 0 {
		of = fmt.Sprintf(" of %d", r.Config.Orders)
	}
	return fmt.Sprintf("%d%s orders, %d faults (last: %s), %d promises broken", len(r.answers), of, total(r.Faults), r.last, len(r.Violations))
}

func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed         %d, %s, %d replicas, %d brokers, %d customers at once\n",
		r.Config.Seed, r.Config.Engine, r.Config.Replicas, r.Config.Brokers, r.Config.Clients)
	fmt.Fprintf(&b, "orders       %d in %v: %s\n", len(r.answers), r.Took.Round(time.Second), counts(r.Summary.Orders))
	fmt.Fprintf(&b, "faults       %d: %s\n", total(r.Faults), counts(r.Faults))
	fmt.Fprintf(&b, "replies      %s (0: no reply); an order took p50 %s, max %s\n", counts(r.Replies), quantile(r.waited, 0.5), quantile(r.waited, 1))
	fmt.Fprintf(&b, "recovery     of %d kills with orders under way all were decided after p50 %s, max %s; replicas were ready after p50 %s, max %s\n",
		len(r.recovered), quantile(r.recovered, 0.5), quantile(r.recovered, 1), quantile(r.ready, 0.5), quantile(r.ready, 1))
	fmt.Fprintf(&b, "at rest      %v after the last fault\n", r.Rest.Round(time.Millisecond))
	fmt.Fprintf(&b, "books        %d pieces sold, captured %s (micros), %d events, %d published more than once\n",
		r.Summary.Sold, counts(r.Summary.Captured), r.Summary.Events, r.Summary.Repeated)
	fmt.Fprintf(&b, "violations   %d\n", len(r.Violations))
	for _, v := range r.Violations[:min(len(r.Violations), 40)] {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	return b.String()
}

// counts prints a map in the order of its keys.
func counts[K ~string | ~int, V ~int | ~int64](m map[K]V) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%v %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func total(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

// quantile returns the q-quantile of durations, "none" if there are none.
func quantile(d []time.Duration, q float64) string {
	if len(d) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))].Round(time.Millisecond).String()
}
