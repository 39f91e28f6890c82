package traceparent

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestRestoreContinuesWhatSaveSaved(t *testing.T) {
	want := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5, 6}, TraceFlags: trace.FlagsSampled,
	})
	saved := Save(trace.ContextWithSpanContext(context.Background(), want))
	got := trace.SpanContextFromContext(Restore(context.Background(), saved))
	if got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || !got.IsSampled() || !got.IsRemote() {
		t.Errorf("%q restores %v, want %v", saved, got, want)
	}
}

func TestNothingIsSavedOutsideATrace(t *testing.T) {
	if got := Save(context.Background()); got != "" {
		t.Errorf("saved %q", got)
	}
	for _, text := range []string{"", "garbage", "00-0-0-0"} {
		if sc := trace.SpanContextFromContext(Restore(context.Background(), text)); sc.IsValid() {
			t.Errorf("%q restores %v", text, sc)
		}
	}
}
