package shop

import (
	"context"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/tests/tracetree"
	"github.com/meshmart/meshmart/tests/tracetree/storybook"
)

// TestTraceTrees holds every span that the shop makes while it is used to the
// trees of its stories.
func TestTraceTrees(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		environ := map[string]string{"SIMULATOR_LATENCY": storybook.Latency.String()}
		maps.Copy(environ, databases)
		dir := t.TempDir()
		m := open(t, dir, environ)
		told := storybook.Tell(t, storybook.Shop{
			URL: m.base, AdminEmail: adminEmail, AdminPassword: adminPassword,
			Payments: ledger(t, "payment", dir, databases),
			Spans:    func(context.Context, time.Time) ([]tracetree.Span, error) { return treeSpans(m.spans.GetSpans()), nil },
		})
		t.Logf("figure: %d edges of %d stories in %d traces asserted in process, %s; %d events came again",
			told.Edges, told.Stories, told.Traces, filepath.Base(t.Name()), told.Repeats)
	})
}

// treeSpans returns what a tree needs to know of the spans.
func treeSpans(stubs tracetest.SpanStubs) []tracetree.Span {
	spans := make([]tracetree.Span, len(stubs))
	for i, s := range stubs {
		spans[i] = tracetree.Span{
			Trace: s.SpanContext.TraceID().String(), ID: s.SpanContext.SpanID().String(),
			Kind: s.SpanKind.String(), Name: s.Name, Failed: s.Status.Code == codes.Error, Start: s.StartTime,
		}
		if s.Parent.IsValid() {
			spans[i].Parent = s.Parent.SpanID().String()
		}
		if v, ok := s.Resource.Set().Value("service.name"); ok {
			spans[i].Service = v.AsString()
		}
		for _, a := range s.Attributes {
			spans[i].Statement = spans[i].Statement || a.Key == attribute.Key("db.system.name")
		}
	}
	return spans
}
