package main

import (
	"time"

	"github.com/meshmart/meshmart/tests/bench/stats"
)

// Results is all that was measured, as it is written to results.json.
type Results struct {
	Time     time.Time `json:"time"`
	Took     float64   `json:"took_s"`
	Machine  Machine   `json:"machine"`
	Args     []string  `json:"args"`
	Runs     []Run     `json:"runs"`
	Ratios   []Ratio   `json:"ratios"`
	Starts   []Start   `json:"starts,omitempty"`
	Growth   []Growth  `json:"growth,omitempty"`
	Watchers []Watched `json:"watchers,omitempty"`
	SoldOut  []SoldOut `json:"sold_out,omitempty"`
	Goals    []Verdict `json:"goals,omitempty"`
	LeftOut  []string  `json:"left_out,omitempty"` // what was not measured, and why
}

// Machine is what it was measured on.
type Machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Memory int64   `json:"memory_bytes"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	Load   float64 `json:"load_before"` // of the last minute: others who have used it
}

// Run is one load on one contender.
type Run struct {
	Scenario  string  `json:"scenario"`
	Contender string  `json:"contender"`
	Clients   int     `json:"clients"`
	Rate      float64 `json:"rate,omitempty"` // of calls per second in an open loop; 0: a closed one
	Round     int     `json:"round"`
	Calls     int64   `json:"calls"`
	Failed    int64   `json:"failed"`
	Error     string  `json:"error,omitempty"` // of the first that failed
	PerSecond float64 `json:"per_second"`
	// Latencies in microseconds.
	P50  float64 `json:"p50_us"`
	P95  float64 `json:"p95_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	// Of each process, "load" being the one that calls: processor time in
	// milliseconds per 1,000 calls, which is microseconds per call, until all
	// that the calls have begun is done; allocations per call; bytes of memory.
	CPU    map[string]float64 `json:"cpu_ms_per_1000"`
	Allocs map[string]float64 `json:"allocs_per_call"`
	RSS    map[string]int64   `json:"rss_bytes"`
}

// loader is this process among the others.
const loader = "load"

// TotalCPU is that of all processes.
func (r Run) TotalCPU() float64 { return sum(r.CPU) }

// ServerCPU leaves out the process that calls.
func (r Run) ServerCPU() float64 { return sum(r.CPU) - r.CPU[loader] }

// TotalAllocs is that of all processes that tell.
func (r Run) TotalAllocs() float64 { return sum(r.Allocs) }

func sum(m map[string]float64) float64 {
	total := 0.0
	for _, v := range m {
		total += v
	}
	return total
}

// Ratio compares a contender with the yardstick of its scenario, round by round.
type Ratio struct {
	Scenario  string       `json:"scenario"`
	Contender string       `json:"contender"`
	To        string       `json:"to"`
	Clients   int          `json:"clients"`
	CPU       stats.Spread `json:"cpu"`
	PerSecond stats.Spread `json:"per_second"`
	P50       stats.Spread `json:"p50"`
}

// Start is how a program starts, and what it is when nobody calls.
type Start struct {
	Name    string       `json:"name"`
	First   stats.Spread `json:"first_ms"`        // from exec to its first answer, with an empty database
	Again   stats.Spread `json:"again_ms"`        // with the schema there
	IdleRSS int64        `json:"idle_rss"`        // bytes
	IdleOwn int64        `json:"idle_own"`        // bytes of it that are no pages of the program
	Binary  int64        `json:"binary"`          // bytes
	Image   int64        `json:"image,omitempty"` // bytes, if one was named
}

// Growth is how a call's time depends on how much there is.
type Growth struct {
	Call string       `json:"call"`
	Rows int          `json:"rows"`
	P50  stats.Spread `json:"p50_us"`
	// ToLeast is the ratio to the same call with the fewest rows.
	ToLeast stats.Spread `json:"ratio"`
}

// Watched is what streams that wait cost.
type Watched struct {
	Streams   int     `json:"streams"`
	PerStream int64   `json:"bytes_per_stream"` // more RSS of the services, each
	Reached   float64 `json:"reached_ms"`       // from a change until all have it
}

// Verdict is where a goal stands.
type Verdict struct {
	Goal   string `json:"goal"`
	Wanted string `json:"wanted"`
	Got    string `json:"got"`
	Met    bool   `json:"met"`
}

// of returns the runs of a contender in the order of the rounds: those of an open
// loop have a rate.
func (r *Results) of(scenario, contender string, clients int) []Run {
	var runs []Run
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Contender == contender && x.Clients == clients && x.Rate == 0 {
			runs = append(runs, x)
		}
	}
	return runs
}

// each returns a figure of all runs.
func each(runs []Run, figure func(Run) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = figure(r)
	}
	return values
}

func perSecond(r Run) float64 { return r.PerSecond }
func p50(r Run) float64       { return r.P50 }
