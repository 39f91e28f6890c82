package observability

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

type rules struct{ Groups []ruleGroup }

type ruleGroup struct {
	Name  string
	Rules []struct {
		Record, Alert, Expr string
		Labels, Annotations map[string]string
	}
}

// reads reports whether a rule of the group has the text in its expression.
func (g ruleGroup) reads(text string) bool {
	for _, r := range g.Rules {
		if strings.Contains(r.Expr, text) {
			return true
		}
	}
	return false
}

func written(t *testing.T) (rules, map[string]*dashboard) {
	t.Helper()
	fs, err := files(contracttest.Shop(t))
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	all := map[string]*dashboard{}
	for _, f := range fs {
		if f.Path == rulesFile {
			if err := yaml.Unmarshal(f.Content, &r); err != nil {
				t.Fatal(err)
			}
			continue
		}
		all[strings.TrimPrefix(f.Path, dashboards)] = parsed(t, f)
	}
	return r, all
}

func parsed(t *testing.T, f target.File) *dashboard {
	t.Helper()
	var d struct {
		dashboard
		Panels []*panel
	}
	if err := json.Unmarshal(f.Content, &d); err != nil {
		t.Fatalf("%s: %v", f.Path, err)
	}
	d.dashboard.Panels = d.Panels
	return &d.dashboard
}

func TestEveryObjectiveHasAGroupAndARow(t *testing.T) {
	r, boards := written(t)
	for _, c := range contracttest.Shop(t).RPCs() {
		i := slices.IndexFunc(r.Groups, func(g ruleGroup) bool { return g.Name == "slo "+c.FullName() })
		rows := boards["service-"+c.Host+".json"].Panels
		row := slices.IndexFunc(rows, func(p *panel) bool { return p.Type == "row" && p.Title == c.FullName() })
		if has := c.SLO != nil; has != (i >= 0) || has != (row >= 0) {
			t.Errorf("%s: objective %v, group %v, row %v", c.FullName(), has, i >= 0, row >= 0)
		}
		if i < 0 || row < 0 {
			continue
		}
		for _, rule := range r.Groups[i].Rules {
			if rule.Alert != "" && rule.Annotations["contract"] != c.Source.String() {
				t.Errorf("%s: %s names %q", c.FullName(), rule.Alert, rule.Annotations["contract"])
			}
		}
		if within := c.SLO.GetLatency(); within != nil {
			drawn := rows[row+3].FieldConfig.Defaults.Thresholds.Steps
			if got, want := *drawn[len(drawn)-1].Value, within.AsDuration().Seconds(); got != want {
				t.Errorf("%s: the line is at %v, want %v", c.FullName(), got, want)
			}
			if !r.Groups[i].reads(bucket(within.AsDuration())) {
				t.Errorf("%s: no rule reads the bucket of %v", c.FullName(), within.AsDuration())
			}
		}
	}
}

// What is promised must be a boundary of the histogram, written as Prometheus
// keeps it.
func TestBucketIsThatOfThePromise(t *testing.T) {
	for d, want := range map[time.Duration]string{
		50 * time.Millisecond:   `le="0.05"`,
		750 * time.Millisecond:  `le="0.75"`,
		time.Second:             `le=~"1(\\.0)?"`,
		2500 * time.Millisecond: `le="2.5"`,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestObjectivesThatCanNotBeWatchedAreRefused(t *testing.T) {
	slo := func(availability float64, latency time.Duration, share float64) *meshpb.Slo {
		return &meshpb.Slo{Availability: availability, Latency: durationpb.New(latency), LatencyQuantile: share}
	}
	for name, c := range map[string]struct {
		method string
		slo    *meshpb.Slo
		want   string
	}{
		"availability":     {"GetOrder", &meshpb.Slo{Availability: 0.9}, "slo with availability 0.9: no calls are as bad as 14.4 times what it allows, and so its alert could never fire; from 0.9306 on it could"},
		"share":            {"GetOrder", slo(0.99, time.Millisecond, 0.5), "slo with latency 0.5: no calls are as bad"},
		"latency, timeout": {"GetOrder", slo(0.99, time.Minute, 0.99), "slo with latency 1m0s: no call takes longer and succeeds, as the timeout is"},
		"latency, stream":  {"WatchOrder", slo(0.99, time.Millisecond, 0.99), "slo with latency on a stream"},
	} {
		s := contracttest.Shop(t)
		r := rpcNamed(t, s, c.method)
		r.SLO, r.Source.Line = proto.CloneOf(c.slo), 28
		_, err := files(s)
		if want := fmt.Sprintf("proto/order/v1/order.proto:28: %s: %s", r.FullName(), c.want); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

// The least that is said to be watchable is.
func TestLeastAvailabilityIsWatched(t *testing.T) {
	s := contracttest.Shop(t)
	rpcNamed(t, s, "GetOrder").SLO = &meshpb.Slo{Availability: 0.9306}
	if _, err := files(s); err != nil {
		t.Error(err)
	}
}

func TestObjectiveWithoutLatencyIsOneOfAvailability(t *testing.T) {
	s := contracttest.Shop(t)
	r := rpcNamed(t, s, "GetOrder")
	r.SLO = &meshpb.Slo{Availability: 0.99}
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	_, group, _ := strings.Cut(string(fs[0].Content), "- name: slo "+r.FullName())
	group, _, _ = strings.Cut(group, "- name:")
	if strings.Contains(group, "latency") || strings.Count(group, "alert:") != len(burns) {
		t.Errorf("got %s", group)
	}
}

func rpcNamed(t *testing.T, s *contract.Shop, method string) *contract.RPC {
	t.Helper()
	for _, r := range s.RPCs() {
		if r.Method == method {
			return r
		}
	}
	t.Fatalf("no RPC %s", method)
	return nil
}

func TestPanelsHaveTheirOwnPlaceAndNumber(t *testing.T) {
	_, boards := written(t)
	uids := map[string]string{}
	for file, d := range boards {
		if other := uids[d.UID]; other != "" || len(d.UID) > 40 {
			t.Errorf("%s: uid %s, as %q", file, d.UID, other)
		}
		uids[d.UID] = file
		cells, ids := map[[2]int]string{}, map[uint32]string{}
		for _, p := range d.Panels {
			if other := ids[p.ID]; other != "" || p.ID == 0 {
				t.Errorf("%s: %s has number %d, as %q", file, p.Title, p.ID, other)
			}
			ids[p.ID] = p.Title
			if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 3 {
				t.Errorf("%s: %s is at %+v", file, p.Title, p.GridPos)
			}
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if cells[cell] != "" {
						t.Fatalf("%s: %s and %s are on each other", file, p.Title, cells[cell])
					}
					cells[cell] = p.Title
				}
			}
		}
	}
}

// A link to a panel must lead to the same one when another RPC has come.
func TestNumbersOfPanelsStay(t *testing.T) {
	s := contracttest.Shop(t)
	before := ids(t, s)
	rpcNamed(t, s, "CreateOrder").SLO = nil
	after := ids(t, s)
	for name, id := range after {
		if before[name] != id && !strings.Contains(name, "without an objective") {
			t.Errorf("%s: %d, was %d", name, id, before[name])
		}
	}
	if len(after) >= len(before) {
		t.Errorf("%d panels, were %d", len(after), len(before))
	}
}

func ids(t *testing.T, s *contract.Shop) map[string]uint32 {
	t.Helper()
	fs, err := files(s)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint32{}
	for _, f := range fs {
		if !bytes.HasPrefix(f.Content, []byte("{")) {
			continue
		}
		d, row := parsed(t, f), ""
		for _, p := range d.Panels {
			if p.Type == "row" {
				row = p.Title
			}
			out[d.UID+"/"+row+"/"+p.Title] = p.ID
		}
	}
	return out
}

// Histograms lead to traces by their exemplars, and every panel says what its
// numbers are.
func TestPanelsAreWhole(t *testing.T) {
	_, boards := written(t)
	for file, d := range boards {
		for _, p := range d.Panels {
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: %s is without description, datasource or query", file, p.Title)
			}
			for _, q := range p.Targets {
				// A difference of two is of no single call, and proxies have none.
				ours := strings.HasPrefix(q.Expr, "histogram_quantile") && !strings.Contains(q.Expr, " - on") &&
					!strings.Contains(q.Expr, "istio_") && !strings.Contains(q.Expr, "response_latency")
				if ours != q.Exemplar {
					t.Errorf("%s: %s: exemplars %v: %s", file, p.Title, q.Exemplar, q.Expr)
				}
			}
		}
	}
}
