package tests

import (
	"testing"

	"github.com/meshmart/meshmart/tests/testbed"
	"github.com/meshmart/meshmart/tests/tracetree/storybook"
)

// TestTraceTreesInJaeger finds the trees of all stories in a Jaeger, to which each
// service sends its spans from a process of its own.
func TestTraceTreesInJaeger(t *testing.T) {
	testbed.NeedsDocker(t)
	ctx := t.Context()
	b, err := testbed.Start(ctx, testbed.Options{
		Jaeger: true, Environ: map[string]string{"SIMULATOR_LATENCY": storybook.Latency.String()},
	})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := b.Service("gateway")[0].URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	query, err := b.JaegerURL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	payments, err := b.OpenDatabase(ctx, "payment")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { payments.Close() })
	told := storybook.Tell(t, storybook.Shop{
		URL: gateway, AdminEmail: testbed.AdminEmail, AdminPassword: testbed.AdminPassword,
		Payments: payments, Spans: jaeger{query}.spans,
	})
	t.Logf("figure: %d edges of %d stories in %d traces asserted in Jaeger; %d events came again",
		told.Edges, told.Stories, told.Traces, told.Repeats)
}
