package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meshmart/meshmart/tests/audit"
)

// Report is what a run came to.
type Report struct {
	Config       Config
	Context      string
	Took         time.Duration
	Build, Ready time.Duration  // until the images were there; of skaffold run after that, until all was ready
	Story        []string       // how its orders ended
	Identity     map[string]int // calls to pods that speak gRPC, by the Deployment that the caller was like
	Fenced       bool           // NetworkPolicies are held
	Trace        string         // that was found
	Uses         map[string]*Use
	Phases       []Phase
	Rest         time.Duration // until nothing was under way, after the last call
	Books        audit.Summary
	Promised     int  // orders that the customers were told of
	Checked      bool // the books
	Violations   []string
}

// Phase is one thing that was done while customers called.
type Phase struct {
	Name   string
	Took   time.Duration
	Calls  int
	Failed []failure
	Ready  []time.Duration // for each pod that was ended, until all was ready again

	began     time.Time
	latencies []int64 // ms
}

func (r *Report) violated(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

func (r *Report) asked(who string) {
	if r.Identity == nil {
		r.Identity = map[string]int{}
	}
	r.Identity[who]++
}

func (r *Report) use(service string) *Use {
	if r.Uses == nil {
		r.Uses = map[string]*Use{}
	}
	if r.Uses[service] == nil {
		r.Uses[service] = &Use{}
	}
	return r.Uses[service]
}

// String is a line of the report.
func (p *Phase) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-9s %3.0f s, %4d calls, %d failed", p.Name, p.Took.Seconds(), p.Calls, len(p.Failed))
	if n := len(p.latencies); n > 0 {
		s := slices.Sorted(slices.Values(p.latencies))
		fmt.Fprintf(&b, "; a call took p50 %d, p99 %d, max %d ms", s[n/2], s[n*99/100], s[n-1])
	}
	if n := len(p.Failed); n > 0 {
		fmt.Fprintf(&b, "; the last one %.1f s after the beginning", p.Failed[n-1].heard.Sub(p.began).Seconds())
	}
	if n := len(p.Ready); n > 0 {
		s := slices.Sorted(slices.Values(p.Ready))
		fmt.Fprintf(&b, "; ready again after %.1f s at most", s[n-1].Seconds())
	}
	return b.String()
}

// failures is a list of them, of the same kind together.
func (p *Phase) failures() []string {
	kinds := map[string]int{}
	for _, f := range p.Failed {
		kinds[f.Call+": "+f.Error]++
	}
	var all []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, fmt.Sprintf("%d x %s", kinds[k], k))
	}
	return all
}

func (r *Report) String() string {
	if r.Ready == 0 {
		return "" // it came to nothing
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster    %s, %s, %d calls a second, %v in all\n", r.Context, r.Config.Mode, r.Config.Rate, r.Took.Round(time.Second))
	fmt.Fprintf(&b, "deployed   images after %.0f s; skaffold run to ready %.0f s\n", r.Build.Seconds(), r.Ready.Seconds())
	fmt.Fprintf(&b, "story      %s\n", strings.Join(r.Story, ", "))
	if len(r.Identity) > 0 {
		fmt.Fprintf(&b, "identity   %d calls to all pods that speak gRPC by one without, %d with another service's, %d with the gateway's\n",
			r.Identity["load"], r.Identity["greeter"], r.Identity["gateway"])
		fmt.Fprintf(&b, "network    %s\n", map[bool]string{
			true:  "NetworkPolicies are there, and held",
			false: "NetworkPolicies are there, and the cluster's network plugin does not hold them",
		}[r.Fenced])
	}
	fmt.Fprintf(&b, "trace      %s\n", r.Trace)
	for _, name := range slices.Sorted(maps.Keys(r.Uses)) {
		u := r.Uses[name]
		fmt.Fprintf(&b, "uses       %-9s %4.0fm of %s CPU, %3.0f MiB of %s; image %.1f MB packed\n",
			name, 1000*u.CPU, u.Asked["cpu"], u.Memory/(1<<20), u.Asked["memory"], float64(u.Image)/1e6)
	}
	for _, p := range r.Phases {
		fmt.Fprintf(&b, "%-10s %s\n", "calls", &p)
		for _, f := range p.failures() {
			fmt.Fprintf(&b, "             %s\n", f)
		}
	}
	if !r.Checked {
		b.WriteString("books      not checked: the run did not come to them\n")
		return r.violations(&b)
	}
	fmt.Fprintf(&b, "books      at rest %.1f s after the last call; orders %v, %d pieces sold, %d events, %d published more than once; %d orders promised\n",
		r.Rest.Seconds(), r.Books.Orders, r.Books.Sold, r.Books.Events, r.Books.Repeated, r.Promised)
	return r.violations(&b)
}

func (r *Report) violations(b *strings.Builder) string {
	fmt.Fprintf(b, "violations %d\n", len(r.Violations))
	for _, v := range r.Violations[:min(len(r.Violations), 40)] {
		fmt.Fprintf(b, "  %s\n", v)
	}
	return b.String()
}
