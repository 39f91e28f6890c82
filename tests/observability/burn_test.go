package observability

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// objective is what a generated group promises of an RPC.
type objective struct {
	service, method, name string
	share                 float64
	le                    string // of the bucket that ends at the latency, if it is one
}

func (o objective) budget() float64 { return 1 - o.share }

// speed is one of the burn rates that have an alert.
type speed struct {
	factor      float64
	long, short time.Duration
	name        string // of the long window
}

var speeds = []speed{
	{14.4, time.Hour, 5 * time.Minute, "1h"},
	{6, 6 * time.Hour, 30 * time.Minute, "6h"},
	{1, 72 * time.Hour, 6 * time.Hour, "3d"},
}

// alert is one generated alert.
type alert struct {
	method, objective string
	burn              string
}

func alertOf(l labels.Labels) alert {
	return alert{l.Get("rpc_method"), l.Get("slo"), l.Get("burn")}
}

func (o objective) alert(s speed) alert {
	return alert{o.method, o.name, strconv.FormatFloat(s.factor, 'f', -1, 64)}
}

var constant = regexp.MustCompile(`^vector\((0\.\d+)\)$`)

// objectives are read from the rules that record them, and the bucket from the
// rule that counts what is too slow.
func objectives(t *testing.T) []objective {
	t.Helper()
	var out []objective
	for _, g := range ruleFile(t, generated).Groups {
		for _, r := range g.Rules {
			if r.Record != "slo:objective:ratio" {
				continue
			}
			m := constant.FindStringSubmatch(r.Expr)
			if m == nil {
				t.Fatalf("%s: %s", g.Name, r.Expr)
			}
			share, _ := strconv.ParseFloat(m[1], 64)
			o := objective{service: r.Labels["service_name"], method: r.Labels["rpc_method"], name: r.Labels["slo"], share: share}
			if o.name == "latency" {
				o.le = bucket(t, g)
			}
			out = append(out, o)
		}
	}
	return out
}

func bucket(t *testing.T, g rulefmt.RuleGroup) string {
	t.Helper()
	for _, r := range g.Rules {
		e, err := promQL.ParseExpr(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, selectors := range parser.ExtractSelectors(e) {
			for _, m := range selectors {
				if m.Name == "le" && m.Type == labels.MatchEqual {
					return m.Value
				}
			}
		}
	}
	t.Fatalf("%s: no bucket", g.Name)
	return ""
}

// traffic is what one replica of every service has counted so far.
type traffic struct {
	objectives []objective
	all        map[string]*series // by name and labels
	order      []*series
}

func newTraffic(all []objective) *traffic { return &traffic{all, map[string]*series{}, nil} }

func (tr *traffic) count(o objective, name, code, le string, n float64) {
	key := fmt.Sprint(o.method, name, code, le)
	s := tr.all[key]
	if s == nil {
		l := []string{model.MetricNameLabel, name, "job", "meshmart", "instance", "10.0.0.1:9100", "service_name", o.service, "rpc_method", o.method, "rpc_response_status_code", code}
		if le != "" {
			l = append(l, "le", le)
		}
		s = &series{Labels: labels.FromStrings(l...)}
		tr.all[key], tr.order = s, append(tr.order, s)
	}
	s.value += n
}

// fail counts failed calls. As in a service, there is no series of them before the
// first one.
func (tr *traffic) fail(o objective, name string, n float64) {
	if n > 0 {
		tr.count(o, name, "INTERNAL", "", n)
	}
}

// call has each RPC called n times, of which a share is bad.
func (tr *traffic) call(n float64, bad share) {
	const metric = "rpc_server_call_duration_seconds"
	good := map[string]float64{}
	for _, o := range tr.objectives {
		switch o.name {
		case "availability":
			failed := n * bad(o)
			good[o.method] = n - failed
			tr.fail(o, metric+"_count", failed)
			tr.count(o, metric+"_count", "OK", "", n-failed)
		case "latency":
			ok := good[o.method] // the availability comes first
			tr.count(o, metric+"_bucket", "OK", o.le, ok*(1-bad(o)))
			tr.count(o, metric+"_bucket", "OK", "+Inf", ok)
		}
	}
}

func (tr *traffic) now() []series {
	out := make([]series, len(tr.order))
	for i, s := range tr.order {
		out[i] = *s
	}
	return out
}

// share is how many of an RPC's calls are bad for an objective.
type share func(objective) float64

func none(objective) float64 { return 0 }

// times is so much of what the objective allows.
func times(factor float64) share { return func(o objective) float64 { return factor * o.budget() } }

// all is every call, for the objectives of one name.
func all(name string) share {
	return func(o objective) float64 {
		if o.name == name {
			return 1
		}
		return 0
	}
}

// run is a stretch of traffic that goes on in one way.
type run struct {
	lasts time.Duration
	calls float64 // of each RPC in an interval
	bad   share
}

// watched is a Prometheus that has seen some traffic.
type watched struct {
	*prometheus
	tr   *traffic
	from time.Time // the next evaluation
	now  time.Time // the next scrape
}

func watch(t *testing.T, all []objective) *watched {
	at := time.Unix(1_800_000_000, 0)
	return &watched{start(t, generated), newTraffic(all), at, at}
}

// see scrapes the traffic, and evaluates the rules as they would have been.
func (w *watched) see(runs ...run) {
	w.t.Helper()
	for _, r := range runs {
		for end := w.now.Add(r.lasts); w.now.Before(end); w.now = w.now.Add(interval) {
			w.tr.call(r.calls, r.bad)
			w.append(w.now, w.tr.now())
		}
	}
	last := w.now.Add(-interval)
	w.record(last.Add(-2 * interval))
	for ; !w.from.After(last); w.from = w.from.Add(interval) {
		w.evaluate(w.from)
	}
}

// record evaluates what the rules record of single intervals up to a time, rule by
// rule: everything else follows from that. Three days of all rules in turn would
// take minutes.
func (w *watched) record(until time.Time) {
	w.t.Helper()
	if until.Before(w.from) {
		return
	}
	for _, g := range ruleFile(w.t, generated).Groups {
		for _, r := range g.Rules {
			if r.Record == "slo:calls:rate5m" || r.Record == "slo:bad:rate5m" {
				w.recordRule(r, until)
			}
		}
	}
	w.from = until.Add(interval)
}

func (w *watched) recordRule(r rulefmt.Rule, until time.Time) {
	w.t.Helper()
	q, err := w.engine.NewRangeQuery(w.t.Context(), w.store, nil, r.Expr, w.from, until, interval)
	if err != nil {
		w.t.Fatal(err)
	}
	defer q.Close()
	matrix, err := q.Exec(w.t.Context()).Matrix()
	if err != nil {
		w.t.Fatalf("%s: %v", r.Expr, err)
	}
	app := w.store.Appender(w.t.Context())
	for _, s := range matrix {
		l := named(s, r)
		for _, p := range s.Floats {
			if _, err := app.Append(0, l, p.T, p.F); err != nil {
				w.t.Fatalf("%s: %v", l, err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

func named(s promql.Series, r rulefmt.Rule) labels.Labels {
	b := labels.NewBuilder(s.Metric).Set(model.MetricNameLabel, r.Record)
	for name, value := range r.Labels {
		b.Set(name, value)
	}
	return b.Labels()
}

func (w *watched) fires() map[alert]bool {
	out := map[alert]bool{}
	for _, l := range w.firing() {
		out[alertOf(l)] = true
	}
	return out
}

// TestBurningBudgetsAlert holds every generated alert to its own speed: it fires a
// little above, does not a little below, and ends soon after the calls are good
// again although the long window still has them.
func TestBurningBudgetsAlert(t *testing.T) {
	promised := objectives(t)
	if got, want := len(promised)*len(speeds), len(start(t, generated).alerts()); got != want || got == 0 {
		t.Fatalf("%d objectives and speeds, %d alerts", got, want)
	}
	const calls = 300
	for _, s := range speeds {
		t.Run(s.name, func(t *testing.T) {
			lasts := s.long + 10*time.Minute
			above := watch(t, promised)
			above.see(run{lasts, calls, times(1.1 * s.factor)})
			below := watch(t, promised)
			below.see(run{lasts, calls, times(0.9 * s.factor)})
			over := watch(t, promised)
			over.see(run{s.long, calls, times(2 * s.factor)})
			before := over.fires()
			// A third of the window at thrice the speed is just below it, more is above.
			burst := watch(t, promised)
			burst.see(run{s.long * 67 / 100, calls, none}, run{s.long * 33 / 100, calls, times(3 * s.factor)})
			soon := burst.fires()
			burst.see(run{s.long * 7 / 100, calls, times(3 * s.factor)})
			late := burst.fires()
			over.see(run{s.short + 6*time.Minute, calls, none})
			fires, not, after := above.fires(), below.fires(), over.fires()
			for _, o := range promised {
				a := o.alert(s)
				if !fires[a] {
					t.Errorf("%v: does not fire at 1.1 times its speed", a)
				}
				if not[a] {
					t.Errorf("%v: fires at 0.9 times its speed", a)
				}
				if soon[a] || !late[a] {
					t.Errorf("%v: at thrice its speed fires %v for a third of its long window, %v for more", a, soon[a], late[a])
				}
				if !before[a] || after[a] {
					t.Errorf("%v: fires %v at twice its speed, %v when that is over", a, before[a], after[a])
				}
				still := over.query(fmt.Sprintf(`slo:bad:ratio_rate%s{rpc_method=%q,slo=%q} > %v`, s.name, o.method, o.name, s.factor*o.budget()), over.now.Add(-interval))
				if len(still) != 1 {
					t.Errorf("%v: the long window is over, too: that it ended says nothing of the short one", a)
				}
			}
			if s.factor == 1 && len(not) > 0 {
				t.Errorf("below all speeds %d alerts fire", len(not))
			}
		})
	}
	t.Logf("figure: %d generated alerts for %d RPCs, each fires at 1.1 and not at 0.9 times its burn rate, and ends", len(promised)*len(speeds), rpcs(promised))
}

func rpcs(all []objective) int {
	methods := map[string]bool{}
	for _, o := range all {
		methods[o.method] = true
	}
	return len(methods)
}

// An alert is for somebody to act on: where nobody calls, or some call of a few
// fails at night, there is nothing to do. The evaluations are those of every
// interval.
func TestFewBadCallsAreNoAlert(t *testing.T) {
	quiet := func(d time.Duration) run { return run{d, 0, none} }
	once := func(bad share) run { return run{interval, 1, bad} }
	for name, runs := range map[string][]run{
		"no calls":             {quiet(20 * time.Minute)},
		"calls that end":       {{10 * time.Minute, 10, none}, quiet(20 * time.Minute)},
		"one of three fails":   {quiet(time.Hour), once(none), once(none), once(all("availability")), quiet(10 * time.Minute)},
		"one of three is slow": {quiet(time.Hour), once(none), once(none), once(all("latency")), quiet(10 * time.Minute)},
		"four of four fail":    {quiet(time.Hour), {4 * interval, 1, all("availability")}, quiet(10 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, objectives(t))
			w.see(run{runs[0].lasts, runs[0].calls, runs[0].bad})
			for _, r := range runs[1:] {
				for range r.lasts / interval {
					w.see(run{interval, r.calls, r.bad})
					if got := w.fires(); len(got) > 0 {
						t.Fatalf("%d alerts fire: %v", len(got), got)
					}
				}
			}
			if got := w.fires(); len(got) > 0 {
				t.Fatalf("%d alerts fire: %v", len(got), got)
			}
		})
	}
}

// Few calls are no excuse for an RPC that never works.
func TestRareCallsThatAllFailAlert(t *testing.T) {
	for _, name := range []string{"availability", "latency"} {
		promised := objectives(t)
		w := watch(t, promised)
		w.see(run{time.Hour, 0, none})
		for range 15 { // one in 4 minutes
			w.see(run{interval, 1, all(name)}, run{7 * interval, 0, none})
		}
		fires := w.fires()
		for _, o := range promised {
			if a := o.alert(speeds[0]); fires[a] != (o.name == name) {
				t.Errorf("%v fires: %v", a, fires[a])
			}
		}
	}
}
