package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/tests/bench/stats"
)

// TestEverythingIsMeasured is a run of everything that is as short as can be. It
// asks for figures to be there, and for none to be good.
func TestEverythingIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts the whole shop, twice")
	}
	out := t.TempDir()
	cfg, err := parse([]string{"-quick", "-rounds", "1", "-time", "60ms", "-clients", "2", "-rows", "1000", "-streams", "10", "-products", "20", "-out", out})
	if err != nil {
		t.Fatal(err)
	}
	cfg.OrderClients, cfg.Rates = []int{4}, []float64{0.5}
	var progress strings.Builder
	cfg.Progress = &progress
	results, err := Measure(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, s := range results.LeftOut {
		t.Log("left out:", s)
	}
	wantFigures(t, results)
	if err := results.write(out, &progress); err != nil {
		t.Fatal(err)
	}
	var read Results
	if err := json.Unmarshal([]byte(text(filepath.Join(out, "results.json"))), &read); err != nil || len(read.Runs) != len(results.Runs) {
		t.Errorf("results.json has %d runs, want %d: %v", len(read.Runs), len(results.Runs), err)
	}
	if picture := text(filepath.Join(out, "latency.svg")); !strings.Contains(picture, "GetProduct") {
		t.Errorf("the picture is\n%.300s", picture)
	}
}

// wantFigures asks for a run of every contender, with what it used.
func wantFigures(t *testing.T, r *Results) {
	t.Helper()
	postgres := len(r.LeftOut) == 0
	for _, s := range scenarios {
		for _, c := range s.contenders {
			if c.on == onAddr || !postgres && (c.on == onPostgres || c.on == onBarePG) {
				continue
			}
			runs := r.of(s.name, c.name, 2)
			if len(runs) != 1 {
				t.Errorf("%s, %s: %d runs, want 1", s.name, c.name, len(runs))
				continue
			}
			x := runs[0]
			if x.Calls == 0 || x.P50 <= 0 || x.P50 > x.P999 || x.RSS[loader] == 0 || x.TotalAllocs() == 0 {
				t.Errorf("%s, %s: %+v", s.name, c.name, x)
			}
		}
	}
	if !postgres {
		return
	}
	if len(r.SoldOut) != 2 {
		t.Errorf("sold out %d times, want 2", len(r.SoldOut))
	}
	if len(r.Growth) != 6 || len(r.Watchers) != 2 || len(r.Starts) != 8 {
		t.Errorf("growth of %d calls, watchers %d times, %d starts; want 6, 2 and 8", len(r.Growth), len(r.Watchers), len(r.Starts))
	}
	for _, s := range r.SoldOut {
		if s.Accepted+s.Left != pieces { // a slow machine may refuse some for want of time
			t.Errorf("sold out: %+v", s)
		}
	}
	for _, s := range r.Starts {
		if s.IdleRSS == 0 || s.IdleOwn == 0 || s.IdleOwn >= s.IdleRSS || s.Binary == 0 || s.First.Median <= 0 || s.Again.Median <= 0 {
			t.Errorf("start of %s: %+v", s.Name, s)
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-engine mysql", "-engine"},
		{"-rounds 0", "-rounds"},
		{"-time 0s", "-time"},
		{"-clients 1,none", "-clients"},
		{"-only (", "-only"},
		{"-products 1", "-products"},
		{"-rows -1", "-rows"},
		{"-addr product", "-addr"},
		{"more", `"more"`},
	} {
		if _, err := parse(strings.Fields(tt.args)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("bench %s: got %v, want an error that names %s", tt.args, err, tt.want)
		}
	}
}

func TestQuickLeavesAloneWhatWasAskedFor(t *testing.T) {
	cfg, err := parse(strings.Fields("-quick -rounds 7 -clients 3"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Rounds != 7 || len(cfg.Clients) != 1 || cfg.Clients[0] != 3 || cfg.Rows != 10_000 {
		t.Errorf("got %d rounds, %v clients, %d rows; want 7, 3 and 10000", cfg.Rounds, cfg.Clients, cfg.Rows)
	}
}

func TestGoalsAreJudgedByTheirMedian(t *testing.T) {
	r := &Results{
		Ratios: []Ratio{{Scenario: "GetProduct", Contender: "postgres 1%", Clients: goalClients, CPU: stats.Of([]float64{1.1, 1.2, 3})}},
		Growth: []Growth{{Call: "GetProduct", Rows: 1000}, {Call: "GetProduct", Rows: 10_000, ToLeast: stats.Of([]float64{2})}},
	}
	for i, cpu := range []float64{400, 450, 600} {
		r.Runs = append(r.Runs, Run{Scenario: "CreateOrder", Contender: "postgres", Clients: goalOrderClients, Round: i + 1,
			PerSecond: 1900, CPU: map[string]float64{"order": cpu - 100, loader: 100}})
	}
	got := map[string]bool{}
	for _, v := range verdicts(r) {
		got[v.Goal] = v.Met
	}
	want := map[string]bool{
		"GetProduct, 1% sampled: CPU to bare":      true,
		"orders on PostgreSQL, 256 clients":        false,
		"CPU per order, all processes, PostgreSQL": true,
		"p50 of GetProduct, most rows to 1,000":    false,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("verdicts (-got +want):\n%s", diff)
	}
}

func TestTableSaysWhatFailed(t *testing.T) {
	r := &Results{Runs: []Run{{Scenario: "Login", Contender: "postgres", Clients: 1, Round: 1, Calls: 7, Failed: 3, PerSecond: 7}}}
	if table := r.String(); !strings.Contains(table, "postgres (3 of 10 failed)") {
		t.Errorf("the table is\n%s", table)
	}
}
