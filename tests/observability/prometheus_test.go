// Package observability tests what watches the shop with Prometheus' own code: its
// rules, evaluated as Prometheus does, and the queries of the dashboards, on the
// metrics of a shop that runs.
//
// It is a module of its own: Prometheus is large, and no part of the shop.
package observability

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"
)

// interval is that of the rules, as slo.yaml has it, and of the scrapes here.
const interval = 30 * time.Second

const (
	generated = "observability/prometheus/rules/slo.yaml"
	written   = "observability/prometheus/rules/shop.yaml"
)

var promQL = parser.NewParser(parser.Options{})

// root is the folder of the repository.
func root() string { return filepath.Join("..", "..") }

// ruleFile reads a rule file as Prometheus does, which refuses one with an error.
func ruleFile(t *testing.T, path string) *rulefmt.RuleGroups {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join(root(), path), false, model.UTF8Validation, promQL, promslog.NewNopLogger())
	for _, err := range errs {
		t.Fatal(err)
	}
	return groups
}

// prometheus is one that scrapes nothing by itself, at times of a test's choice.
type prometheus struct {
	t      *testing.T
	store  *teststorage.TestStorage
	engine *promql.Engine
	groups []*rules.Group // in the order of the files
}

// start returns one with the rules. Its storage takes samples of any age.
func start(t *testing.T, files ...string) *prometheus {
	t.Helper()
	const ages = 90 * 24 * time.Hour
	p := &prometheus{t: t, store: teststorage.New(t, func(o *tsdb.Options) {
		o.MinBlockDuration, o.MaxBlockDuration = ages.Milliseconds(), ages.Milliseconds()
	})}
	p.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: 2 * time.Minute, Parser: promQL,
		EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	t.Cleanup(func() { p.engine.Close() })
	p.load(files)
	return p
}

func (p *prometheus) load(files []string) {
	p.t.Helper()
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(p.engine, p.store), Appendable: p.store, Queryable: p.store,
		Context: p.t.Context(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger: promslog.NewNopLogger(), Parser: promQL, NameValidationScheme: model.UTF8Validation,
	})
	for _, file := range files {
		path := filepath.Join(root(), file)
		all, errs := m.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, path)
		for _, err := range errs {
			p.t.Fatal(err)
		}
		for _, g := range ruleFile(p.t, file).Groups {
			p.groups = append(p.groups, all[rules.GroupKey(path, g.Name)])
		}
	}
	for _, r := range p.alerts() {
		r.SetRestored(true)
	}
}

// series is one of those that are appended, at its value.
type series struct {
	labels.Labels
	value float64
}

func (p *prometheus) append(at time.Time, all []series) {
	p.t.Helper()
	app := p.store.Appender(p.t.Context())
	for _, s := range all {
		if _, err := app.Append(0, s.Labels, at.UnixMilli(), s.value); err != nil {
			p.t.Fatalf("%s at %v: %v", s.Labels, at, err)
		}
	}
	if err := app.Commit(); err != nil {
		p.t.Fatal(err)
	}
}

// evaluate evaluates all rules once. A rule that fails fails the test.
func (p *prometheus) evaluate(at time.Time) {
	p.t.Helper()
	for _, g := range p.groups {
		g.Eval(p.t.Context(), at)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				p.t.Fatalf("%s: %s: %v", g.Name(), r.Name(), err)
			}
		}
	}
}

// query evaluates an expression at one time.
func (p *prometheus) query(expr string, at time.Time) promql.Vector {
	p.t.Helper()
	q, err := p.engine.NewInstantQuery(p.t.Context(), p.store, nil, expr, at)
	if err != nil {
		p.t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	result := q.Exec(p.t.Context())
	if result.Err != nil {
		p.t.Fatalf("%s: %v", expr, result.Err)
	}
	if s, ok := result.Value.(promql.Scalar); ok {
		return promql.Vector{{T: s.T, F: s.V}}
	}
	return result.Value.(promql.Vector)
}

func (p *prometheus) alerts() []*rules.AlertingRule {
	var out []*rules.AlertingRule
	for _, g := range p.groups {
		out = append(out, g.AlertingRules()...)
	}
	return out
}

// firing are the labels of the alerts that fire since the last evaluation.
func (p *prometheus) firing() []labels.Labels {
	var out []labels.Labels
	for _, r := range p.alerts() {
		for _, a := range r.ActiveAlerts() {
			if a.State == rules.StateFiring {
				if text := a.Annotations.String(); strings.Contains(text, "error expanding") || strings.Contains(text, "no value") {
					p.t.Errorf("%s: %s", r.Name(), text)
				}
				out = append(out, a.Labels)
			}
		}
	}
	return out
}
