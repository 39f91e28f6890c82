package payment

import (
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshmart/meshmart/services/internal/idem"
)

// What has nothing to do is no repetition of what was done.
func TestOnlyWhatWasDoneBeforeIsReplayed(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for steps, want := range map[string]bool{
			"authorize": false, "authorize authorize": true, "decline decline": true, "authorize capture authorize": true,
			"authorize capture": false, "authorize capture capture": true,
			"authorize void": false, "authorize void void": true, "void": false, "void void": true, "decline void": false,
			"authorize capture refund": false, "authorize capture refund refund": true, "authorize void refund": false, "decline refund": false,
			"authorize void authorize": false, "authorize capture void": false, // refused
		} {
			spans := tracetest.NewInMemoryExporter()
			tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("")
			for word := range strings.FieldsSeq(steps) {
				ctx, span := tracer.Start(t.Context(), word)
				_, _ = b.step(ctx, word, steps)
				span.End()
			}
			all := spans.GetSpans()
			if got := slices.Contains(all[len(all)-1].Attributes, idem.ReplayedKey.Bool(true)); got != want {
				t.Errorf("%s: the last step is a repetition: %v, want %v", steps, got, want)
			}
		}
	})
}
