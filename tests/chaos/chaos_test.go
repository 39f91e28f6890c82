package main

import (
	"strings"
	"testing"

	"github.com/meshmart/meshmart/tests/testbed"
)

// TestCampaign is a short campaign on each engine; `make chaos` runs longer ones.
func TestCampaign(t *testing.T) {
	testbed.NeedsDocker(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"postgres", []string{"-orders", "400"}},
		{"sqlite", []string{"-engine", "sqlite", "-orders", "200"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := parse(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			var progress strings.Builder
			cfg.Progress = &progress
			report, err := Run(t.Context(), cfg)
			if err != nil {
				t.Errorf("%v\n%s%v", err, progress.String(), report)
			}
			if report == nil {
				return
			}
			t.Logf("figure: chaos on %s, seed %d: %d orders in %.0f s under %d faults, %d violations; "+
				"orders under way at a kill were all decided after p50 %s, max %s",
				tt.name, cfg.Seed, len(report.answers), report.Took.Seconds(), total(report.Faults), len(report.Violations),
				quantile(report.recovered, 0.5), quantile(report.recovered, 1))
			if total(report.Faults) < 3 { // orders may be sold faster than faults are made
				t.Errorf("only %d faults were made", total(report.Faults))
			}
		})
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-engine mysql", "-engine"},
		{"-orders 0", "-orders"},
		{"-brokers 2", "-brokers"},
		{"-think 0s", "-think"},
		{"more", `"more"`},
	} {
		if _, err := parse(strings.Fields(tt.args)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("chaos %s: got %v, want an error that names %s", tt.args, err, tt.want)
		}
	}
}
