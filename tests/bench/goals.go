package main

import (
	"fmt"
	"strings"

	"github.com/meshmart/meshmart/tests/bench/stats"
)

// goal is what the shop should reach on two processors, as far as it can be told
// from one run.
type goal struct {
	name string
	most bool    // the figure may be that at most; else it must be that at least
	want float64 // of the median
	unit string
	got  func(*Results) stats.Spread // no rounds: it was not measured
}

// The numbers of clients and streams at which the goals hold.
const (
	goalClients      = 64
	goalOrderClients = 256
	goalStreams      = 10_000
)

const (
	megabyte = 1 << 20
	kilobyte = 1 << 10
)

var goals = []goal{
	{"GetProduct, 1% sampled: CPU to bare", true, 1.25, "x", cpuTo("GetProduct", "postgres 1%")},
	{"GetProduct, 100% sampled: CPU to bare", true, 1.6, "x", cpuTo("GetProduct", "postgres 100%")},
	{"REST GET: CPU to bare gRPC", true, 2.5, "x", cpuTo("GetProduct", "REST postgres")},
	{"orders on PostgreSQL, 256 clients", false, 2000, "/s", ordersPerSecond("CreateOrder", "postgres")},
	{"the same, all of one product: share of that", false, 0.5, "x", hotShare},
	{"orders on SQLite in one process, 256 clients", false, 1000, "/s", ordersPerSecond("CreateOrder, one process", "sqlite")},
	{"CPU per order, all processes, PostgreSQL", true, 500, "us", func(r *Results) stats.Spread {
		return stats.Of(each(r.of("CreateOrder", "postgres", goalOrderClients), Run.TotalCPU))
	}},
	{"idle RSS of a service, the largest", true, 20, "MB", ofStarts(false, func(s Start) float64 { return float64(s.IdleRSS) / megabyte })},
	{"idle RSS of the shop in one process", true, 60, "MB", ofStarts(true, func(s Start) float64 { return float64(s.IdleRSS) / megabyte })},
	{"binary of a service, the largest", true, 25, "MB", ofStarts(false, func(s Start) float64 { return float64(s.Binary) / megabyte })},
	{"start to SERVING with a schema, the slowest service", true, 100, "ms", ofStarts(false, func(s Start) float64 { return s.Again.Median })},
	{"p50 of GetProduct, most rows to 1,000", true, 1.2, "x", grownTo("GetProduct")},
	{"p50 of ListProducts, most rows to 1,000", true, 1.2, "x", grownTo("ListProducts")},
	{"p50 of GetOrder, most rows to 1,000", true, 1.2, "x", grownTo("GetOrder")},
	{"p50 of ListOrders, most rows to 1,000", true, 1.2, "x", grownTo("ListOrders")},
	{"memory of a stream that waits, of 10,000", true, 20, "KB", ofWatched(func(w Watched) float64 { return float64(w.PerStream) / kilobyte })},
	{"a change reaches 10,000 streams", true, 1000, "ms", ofWatched(func(w Watched) float64 { return w.Reached })},
}

// verdicts tells of every goal that was measured.
func verdicts(r *Results) []Verdict {
	var all []Verdict
	for _, g := range goals {
		got := g.got(r)
		if got.Rounds == 0 {
			continue
		}
		v := Verdict{Goal: g.name, Wanted: "at least " + stats.Digits(g.want) + " " + g.unit, Got: got.String() + " " + g.unit, Met: got.Median >= g.want}
		if g.most {
			v.Wanted, v.Met = "at most "+stats.Digits(g.want)+" "+g.unit, got.Median <= g.want
		}
		all = append(all, v)
	}
	for _, s := range r.SoldOut {
		all = append(all, Verdict{Goal: fmt.Sprintf("never oversold: %d pieces, %d orders at once, on %s", s.Pieces, wanted, s.On),
			Wanted: fmt.Sprintf("%d accepted, 0 left", s.Pieces), Got: fmt.Sprintf("%d accepted, %d left", s.Accepted, s.Left),
			Met: s.Accepted == s.Pieces && s.Left == 0 && s.Accepted+s.Refused == wanted})
	}
	return all
}

func cpuTo(scenario, contender string) func(*Results) stats.Spread {
	return func(r *Results) stats.Spread {
		for _, x := range r.Ratios {
			if x.Scenario == scenario && x.Contender == contender && x.Clients == goalClients {
				return x.CPU
			}
		}
		return stats.Spread{}
	}
}

func ordersPerSecond(scenario, contender string) func(*Results) stats.Spread {
	return func(r *Results) stats.Spread {
		return stats.Of(each(r.of(scenario, contender, goalOrderClients), perSecond))
	}
}

func hotShare(r *Results) stats.Spread {
	hot, all := r.of("CreateOrder", "postgres hot", goalOrderClients), r.of("CreateOrder", "postgres", goalOrderClients)
	return stats.Ratios(each(hot, perSecond), each(all, perSecond))
}

// ofStarts is the worst figure of the services, or that of the shop.
func ofStarts(shop bool, figure func(Start) float64) func(*Results) stats.Spread {
	return func(r *Results) stats.Spread {
		worst, found := 0.0, false
		for _, s := range r.Starts {
			if (s.Name == "shop") == shop && !strings.HasPrefix(s.Name, "image ") {
				worst, found = max(worst, figure(s)), true
			}
		}
		if !found {
			return stats.Spread{}
		}
		return stats.Of([]float64{worst})
	}
}

// grownTo is the ratio of the most rows that were measured.
func grownTo(call string) func(*Results) stats.Spread {
	return func(r *Results) (ratio stats.Spread) {
		for _, g := range r.Growth { // in the order of their rows
			if g.Call == call && g.Rows > leastRows {
				ratio = g.ToLeast
			}
		}
		return ratio
	}
}

// ofWatched is a figure of as many streams as the goal is about.
func ofWatched(figure func(Watched) float64) func(*Results) stats.Spread {
	return func(r *Results) stats.Spread {
		for _, w := range r.Watchers {
			if w.Streams == goalStreams {
				return stats.Of([]float64{figure(w)})
			}
		}
		return stats.Spread{}
	}
}

// met counts the goals.
func met(all []Verdict) string {
	n := 0
	for _, v := range all {
		if v.Met {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(all))
}
