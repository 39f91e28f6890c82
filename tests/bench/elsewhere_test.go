package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/tests/bench/rig"
)

// TestAShopThatRunsElsewhereIsMeasured starts one here and tells the benchmark
// nothing but its addresses.
func TestAShopThatRunsElsewhereIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts the shop")
	}
	shop := startElsewhere(t)
	for _, tt := range []struct {
		name, addr string
		want       map[string][]string // contenders by their scenario
	}{
		{"REST", "rest=" + shop.REST, map[string][]string{"GetProduct": {"bare", "REST addr"}, "CreateOrder": {"REST addr"}}},
		{"gRPC", "product=" + shop.Addr["product"] + ",user=" + shop.Addr["user"] + ",order=" + shop.Addr["order"],
			map[string][]string{"GetProduct": {"bare", "addr 1%"}, "Greet": nil, "CreateOrder": {"addr"}, "Login": {"addr"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := parse([]string{"-quick", "-rounds", "1", "-time", "60ms", "-clients", "2", "-addr", tt.addr})
			if err != nil {
				t.Fatal(err)
			}
			cfg.OrderClients, cfg.Rates = nil, nil
			var progress strings.Builder
			cfg.Progress = &progress
			results, err := Measure(t.Context(), cfg)
			if err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			for scenario, contenders := range tt.want {
				for _, c := range contenders {
					if runs := results.of(scenario, c, 2); len(runs) != 1 || runs[0].Calls == 0 {
						t.Errorf("%s, %s: %+v", scenario, c, runs)
					}
				}
				if len(contenders) == 0 && len(results.of(scenario, "bare", 2)) > 0 {
					t.Errorf("%s: the bare server has nobody to be compared with", scenario)
				}
			}
		})
	}
}

func startElsewhere(t *testing.T) *rig.Shop {
	t.Helper()
	root, err := rig.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig.Rig{Dir: t.TempDir(), CatalogFile: "builtin"}
	t.Cleanup(r.Close)
	bin := filepath.Join(r.Dir, "bin")
	if r.Programs, err = rig.Tools(t.Context(), root, bin); err != nil {
		t.Fatal(err)
	}
	if err := r.Programs.Build(t.Context(), root, bin, "", false); err != nil {
		t.Fatal(err)
	}
	shop, err := r.StartOne(t.Context(), "shop", "data", "builtin")
	if err != nil {
		t.Fatal(err)
	}
	return shop
}
