package observability

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

// The variables that Grafana fills in, as they may be.
var variables = strings.NewReplacer("$__rate_interval", "2m", "$__range", "30m", "$__interval", "1m")

// variable is one that is left. $1 is of label_replace.
var variable = regexp.MustCompile(`\$\{?[a-zA-Z_]\w*`)

// question is a query of a dashboard.
type question struct{ file, panel, expr string }

func (q question) String() string { return fmt.Sprintf("%s: %s: %s", q.file, q.panel, q.expr) }

func questions(t *testing.T) []question {
	t.Helper()
	var out []question
	for _, d := range dashboards(t) {
		row := ""
		for _, p := range d.Panels {
			if p.Type == "row" {
				row = p.Title
			}
			for _, target := range p.Targets {
				out = append(out, question{d.file, row + ", " + p.Title, variables.Replace(target.Expr)})
			}
		}
	}
	return out
}

// The queries that have no answer in a shop without faults and without a mesh.
var unanswered = []struct{ file, panel, metric, why string }{
	{"mesh.json", "Istio's view", "istio_", "Istio's proxies have them"},
	{"mesh.json", "Linkerd's view", "response_", "Linkerd's proxies have them"},
	{"overview.json", "Objectives, Alerts", "ALERTS", "nothing is wrong"},
	{"service-product.json", "Events, Duplicates", "", "the service consumes no events"},
	{"service-user.json", "Events, Duplicates", "", "the service consumes no events"},
}

func excused(q question) bool {
	for _, u := range unanswered {
		if q.file == u.file && strings.HasPrefix(q.panel, u.panel) && strings.Contains(q.expr, u.metric) {
			return true
		}
	}
	return false
}

func TestEveryQueryOfTheDashboardsParses(t *testing.T) {
	for _, q := range questions(t) {
		if v := variable.FindString(q.expr); v != "" {
			t.Errorf("%s: the variable %s is not there", q, v)
		}
		if _, err := promQL.ParseExpr(q.expr); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// metrics are the names of the series that an expression reads.
func metrics(expr string) ([]string, error) {
	e, err := promQL.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, selector := range parser.ExtractSelectors(e) {
		for _, m := range selector {
			if m.Name == model.MetricNameLabel {
				out = append(out, m.Value)
			}
		}
	}
	return out, nil
}

// wrong says what is wrong with a query, or "".
func (p *prometheus) wrong(expr string, at time.Time) string {
	names, err := metrics(expr)
	if err != nil {
		return err.Error()
	}
	for _, name := range names {
		if len(p.query("count({__name__=\""+name+"\"})", at)) == 0 {
			return "there is no metric " + name
		}
	}
	if len(p.query(expr, at)) == 0 {
		return "no answer"
	}
	return ""
}

// observed is a Prometheus that has scraped a shop while people came.
type observed struct {
	*prometheus
	at      time.Time // the last evaluation
	names   map[string]bool
	symbols *labels.SymbolTable
}

// visits is how often every RPC is called: a rate takes two scrapes.
const visits = 3

// observe returns what Prometheus knows of a shop whose services are in processes
// as place has it. The last evaluation is at full five minutes, as those of the
// budgets are.
func observe(t *testing.T, scrapes []page, place func(labels.Labels) []labels.Labels) *observed {
	t.Helper()
	end := time.Unix(1_800_000_000, 0)
	o := &observed{start(t, generated, written), end, map[string]bool{}, labels.NewSymbolTable()}
	for i, page := range scrapes {
		at := end.Add(-time.Duration(len(scrapes)-1-i) * interval)
		samples := o.parse(page, place)
		samples = append(samples, series{labels.FromStrings(model.MetricNameLabel, "up", "job", "meshmart", "instance", "shop"), 1})
		o.append(at, samples)
		o.evaluate(at)
	}
	return o
}

type page struct {
	text        []byte
	contentType string
}

func (o *observed) parse(page page, place func(labels.Labels) []labels.Labels) []series {
	o.t.Helper()
	p, err := textparse.New(page.text, page.contentType, o.symbols, textparse.ParserOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	var out []series
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			o.t.Fatal(err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		_, _, value := p.Series()
		o.names[l.Get(model.MetricNameLabel)] = true
		for _, l := range place(l) {
			out = append(out, series{l, value})
		}
	}
}

// together has all services in one process.
func together(l labels.Labels) []labels.Labels {
	return []labels.Labels{labels.NewBuilder(l).Set("job", "meshmart").Set("instance", "shop").Labels()}
}

// apart has each in its own, which puts its name also on the metrics of Go and of
// the process.
func apart(l labels.Labels) []labels.Labels {
	services := services()
	if own := l.Get("service_name"); own != "" {
		services = []string{own}
	}
	var out []labels.Labels
	for _, s := range services {
		out = append(out, labels.NewBuilder(l).Set("job", "meshmart").Set("instance", s).Set("service_name", s).Labels())
	}
	return out
}

// TestARunningShopAnswersTheDashboards has people come to a shop, and asks what
// the dashboards and the rules ask.
func TestARunningShopAnswersTheDashboards(t *testing.T) {
	s := open(t)
	var pages []page
	for range visits {
		s.visit()
		text, contentType := s.scrape()
		pages = append(pages, page{text, contentType})
	}
	all := questions(t)
	for name, place := range map[string]func(labels.Labels) []labels.Labels{"together": together, "apart": apart} {
		t.Run(name, func(t *testing.T) {
			o := observe(t, pages, place)
			asked := o.ask(all)
			o.askRules()
			if name == "together" {
				o.mutate(all)
				t.Logf("figure: %d queries of %d dashboards over %d metrics have an answer on a running shop, %d more are of proxies or of faults", asked, len(dashboards(t)), len(o.read(all)), len(all)-asked)
			}
		})
	}
}

// ask returns how many of the queries have an answer; those that must have fail the
// test if they have none.
func (o *observed) ask(all []question) (answered int) {
	o.t.Helper()
	for _, q := range all {
		problem := o.wrong(q.expr, o.at)
		if problem != "" && !excused(q) {
			o.t.Errorf("%s: %s", q, problem)
		}
		if problem == "" {
			answered++
		}
	}
	return answered
}

// read are the metrics that the queries read and that the shop has.
func (o *observed) read(all []question) []string {
	found := map[string]bool{}
	for _, q := range all {
		names, err := metrics(q.expr)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, name := range names {
			if o.names[name] {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// silent are selectors of the rules that select nothing while nothing is wrong, or
// where all services are in one process.
var silent = map[string]string{
	`rpc_client_call_duration_seconds_count{rpc_response_status_code="UNAVAILABLE"}`: "no call fails",
	`process_start_time_seconds{service_name!=""}`:                                   "one process has no service's name",
}

// askRules expects what the rules record, and all that the alerts look at.
func (o *observed) askRules() {
	o.t.Helper()
	for _, g := range o.groups {
		for _, r := range g.Rules() {
			if _, records := r.(*rules.RecordingRule); records {
				if problem := o.wrong(r.Query().String(), o.at); problem != "" {
					o.t.Errorf("%s: %s: %s: %s", g.Name(), r.Name(), r.Query(), problem)
				}
				continue
			}
			parser.Inspect(r.Query(), func(n parser.Node, _ []parser.Node) error {
				if s, ok := n.(*parser.VectorSelector); ok && silent[s.String()] == "" && len(o.query(s.String(), o.at)) == 0 {
					o.t.Errorf("%s: %s: no series %s", g.Name(), r.Name(), s)
				}
				return nil
			})
		}
	}
	firing := slices.DeleteFunc(o.firing(), func(l labels.Labels) bool { return l.Get(labels.AlertName) == "LatencyBurn" })
	if len(firing) > 0 { // that it takes its time says how busy this machine is
		o.t.Errorf("alerts fire: %v", firing)
	}
}

// mutate has each of the queries ask for a metric and for labels that there are
// not: what is renamed must be found.
func (o *observed) mutate(all []question) {
	o.t.Helper()
	mutants := 0
	for _, q := range all {
		if excused(q) {
			continue
		}
		names, err := metrics(q.expr)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, name := range names {
			mutants++
			if o.wrong(strings.ReplaceAll(q.expr, name, "renamed_"+name), o.at) == "" {
				o.t.Errorf("%s: nobody would see that %s is renamed", q, name)
			}
		}
		if strings.Contains(q.expr, `service_name="`) {
			mutants++
			if o.wrong(strings.ReplaceAll(q.expr, `service_name="`, `service="`), o.at) == "" {
				o.t.Errorf("%s: nobody would see that the label is renamed", q)
			}
		}
	}
	o.t.Logf("figure: %d renamed metrics and labels in queries of the dashboards, each is found", mutants)
}
