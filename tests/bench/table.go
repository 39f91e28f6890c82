package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshmart/meshmart/tests/bench/stats"
)

// write puts the table, the figures and the picture into a folder, and the table
// to out.
func (r *Results) write(dir string, out io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	table := r.String()
	if _, err := io.WriteString(out, table); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "table.txt"), []byte(table), 0o644),
		os.WriteFile(filepath.Join(dir, "latency.svg"), []byte(picture(r)), 0o644))
}

// String is the table.
func (r *Results) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s, load %.1f before; %.0f s on %s\n", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel,
		r.Machine.Go, r.Machine.Load, r.Took, r.Time.UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, "Median over the rounds, [least-most]. CPU: of all processes, the database and the one that calls included.\n")
	for _, s := range scenarios {
		r.scenarioTable(&b, s)
	}
	r.openTable(&b)
	r.growthTable(&b)
	r.watchersTable(&b)
	r.startsTable(&b)
	r.goalsTable(&b)
	for _, s := range r.LeftOut {
		fmt.Fprintf(&b, "\nleft out: %s", s)
	}
	if len(r.LeftOut) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// section writes a table under a heading, a row of tabs at a time.
func section(b *strings.Builder, heading string, columns string, rows func(row func(...any))) {
	fmt.Fprintf(b, "\n%s\n", heading)
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(columns, "|", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, c)
		}
		fmt.Fprintln(w)
	})
	_ = w.Flush() // into memory
}

const scenarioColumns = "clients|contender|calls/s|p50 us|p95|p99|p99.9|CPU us/call|of servers|allocs/call|RSS MB|CPU to first|calls/s to first"

func (r *Results) scenarioTable(b *strings.Builder, s scenario) {
	var levels []Run // one of each number of clients and contender, as measured
	seen := map[string]bool{}
	for _, x := range r.Runs {
		key := fmt.Sprint(x.Clients, x.Contender)
		if x.Scenario == s.name && x.Rate == 0 && !seen[key] {
			seen[key] = true
			levels = append(levels, x)
		}
	}
	if len(levels) == 0 {
		return
	}
	section(b, s.name+": "+s.what, scenarioColumns, func(row func(...any)) {
		for _, l := range levels {
			runs := r.of(s.name, l.Contender, l.Clients)
			m := func(figure func(Run) float64) stats.Spread { return stats.Of(each(runs, figure)) }
			ratio := r.ratio(s.name, l.Contender, l.Clients)
			row(l.Clients, l.Contender+failures(runs), m(perSecond), digits(m(p50)), digits(m(func(r Run) float64 { return r.P95 })),
				digits(m(func(r Run) float64 { return r.P99 })), digits(m(func(r Run) float64 { return r.P999 })),
				m(Run.TotalCPU), digits(m(Run.ServerCPU)), digits(m(Run.TotalAllocs)), digits(m(memory)), ratio.CPU, ratio.PerSecond)
		}
	})
}

func digits(s stats.Spread) string { return stats.Digits(s.Median) }

// memory is that of all processes but the one that calls, in MB.
func memory(r Run) float64 {
	total := 0.0
	for name, n := range r.RSS {
		if name != loader {
			total += float64(n) / megabyte
		}
	}
	return total
}

func failures(runs []Run) string {
	var failed, all int64
	for _, r := range runs {
		failed, all = failed+r.Failed, all+r.Failed+r.Calls
	}
	if failed == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d failed)", failed, all)
}

func (r *Results) ratio(scenario, contender string, clients int) Ratio {
	for _, x := range r.Ratios {
		if x.Scenario == scenario && x.Contender == contender && x.Clients == clients {
			return x
		}
	}
	return Ratio{}
}

func (r *Results) openTable(b *strings.Builder) {
	var runs []Run
	for _, x := range r.Runs {
		if x.Rate > 0 {
			runs = append(runs, x)
		}
	}
	if len(runs) == 0 {
		return
	}
	section(b, "Open loop: calls come at a rate, and wait from when they are due", "scenario|contender|calls/s asked|calls/s done|p50 us|p95|p99|p99.9", func(row func(...any)) {
		for _, x := range runs {
			row(x.Scenario, x.Contender+failures([]Run{x}), stats.Digits(x.Rate), stats.Digits(x.PerSecond),
				stats.Digits(x.P50), stats.Digits(x.P95), stats.Digits(x.P99), stats.Digits(x.P999))
		}
	})
}

func (r *Results) growthTable(b *strings.Builder) {
	if len(r.Growth) == 0 {
		return
	}
	section(b, "Growth on PostgreSQL: one client", "call|rows|p50 us|to 1,000 rows", func(row func(...any)) {
		for _, g := range r.Growth {
			row(g.Call, g.Rows, g.P50, g.ToLeast)
		}
	})
}

func (r *Results) watchersTable(b *strings.Builder) {
	if len(r.Watchers) == 0 {
		return
	}
	section(b, "WatchOrder: streams that wait, and a change that reaches all", "streams|KB each|all reached, ms", func(row func(...any)) {
		for _, w := range r.Watchers {
			row(w.Streams, stats.Digits(float64(w.PerStream)/kilobyte), stats.Digits(w.Reached))
		}
	})
}

func (r *Results) startsTable(b *strings.Builder) {
	if len(r.Starts) == 0 {
		return
	}
	section(b, "Start to the first answer, and what is needed when idle", "program|empty, ms|with schema, ms|idle RSS MB|its own of that|binary or image MB", func(row func(...any)) {
		for _, s := range r.Starts {
			row(s.Name, s.First, s.Again, stats.Digits(float64(s.IdleRSS)/megabyte), stats.Digits(float64(s.IdleOwn)/megabyte), stats.Digits(float64(s.Binary+s.Image)/megabyte))
		}
	})
}

func (r *Results) goalsTable(b *strings.Builder) {
	if len(r.Goals) == 0 {
		return
	}
	section(b, "Goals: "+met(r.Goals)+" are met", "goal|wanted|got|met", func(row func(...any)) {
		for _, v := range r.Goals {
			row(v.Goal, v.Wanted, v.Got, map[bool]string{true: "yes", false: "NO"}[v.Met])
		}
	})
}
