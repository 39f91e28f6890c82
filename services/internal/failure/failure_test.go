package failure_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/failure"
	"github.com/meshmart/meshmart/services/internal/fault"
)

type answer int

func (a answer) Error() string { return "hunter2" }
func (a answer) Code() int     { return int(a) }

func TestASpanSaysTheKindOfAFailureAndNoWords(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fault.Refused("OUT_OF_STOCK", "hunter2"), "OUT_OF_STOCK"},
		{status.Error(codes.NotFound, "hunter2"), "NOT_FOUND"},
		{status.Error(999, "hunter2"), "UNKNOWN"},
		{fmt.Errorf("hunter2: %w", context.Canceled), "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{&pgconn.PgError{Code: "23505", Detail: "hunter2"}, "23505"},
		{answer(1555), "1555"},
		{errors.Join(errors.New("hunter2"), errors.New("hunter2")), "*errors.errorString"},
	} {
		for _, err := range []error{tt.err, fmt.Errorf("order of hunter2: %w", tt.err), fmt.Errorf("%w, %w", tt.err, errors.New("hunter2"))} {
			spans := tracetest.NewInMemoryExporter()
			_, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("").Start(t.Context(), "span")
			failure.Mark(span, err)
			span.End()
			got := spans.GetSpans()[0]
			if got.Status.Code != otelcodes.Error || got.Status.Description != tt.want || strings.Contains(fmt.Sprint(got), "hunter2") ||
				len(got.Attributes) != 1 || got.Attributes[0].Value.AsString() != tt.want {
				t.Errorf("%v: %v, %v, want %s", err, got.Status, got.Attributes, tt.want)
			}
		}
	}
}

func TestSuccessLeavesTheSpanAsItIs(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	_, span := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("").Start(t.Context(), "span")
	failure.Mark(span, nil)
	span.End()
	if got := spans.GetSpans()[0]; got.Status.Code != otelcodes.Unset || len(got.Attributes) != 0 {
		t.Errorf("got %v, %v", got.Status, got.Attributes)
	}
}
