package main

import "github.com/meshmart/meshmart/tests/bench/chart"

// picture draws latency against load: a panel for each scenario with an open
// loop, p50 and p99 of each contender.
func picture(r *Results) string {
	var panels []chart.Panel
	for _, s := range scenarios {
		if !s.open {
			continue
		}
		p := chart.Panel{Title: s.name, XLabel: "calls per second", YLabel: "latency, ms"}
		for i, c := range s.contenders {
			p50, p99 := r.curve(s.name, c.name)
			if len(p50) > 0 {
				p.Lines = append(p.Lines, chart.Line{Name: c.name + " p50", Color: i, Points: p50},
					chart.Line{Name: c.name + " p99", Color: i, Dashed: true, Points: p99})
			}
		}
		if len(p.Lines) > 0 {
			panels = append(panels, p)
		}
	}
	return chart.SVG(panels)
}

// curve returns the latencies of an open loop in milliseconds, by the load.
func (r *Results) curve(scenario, contender string) (p50, p99 []chart.Point) {
	for _, x := range r.Runs {
		if x.Scenario == scenario && x.Contender == contender && x.Rate > 0 {
			p50 = append(p50, chart.Point{X: x.Rate, Y: x.P50 / 1000})
			p99 = append(p99, chart.Point{X: x.Rate, Y: x.P99 / 1000})
		}
	}
	return p50, p99
}
