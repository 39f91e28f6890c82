// Package failure marks a span as failed without saying more than what kind of
// failure it was. The text of an error is for the log: it may hold what a user
// has typed or what a statement was about, and traces are read by many.
package failure

import (
	"context"
	"errors"
	"reflect"
	"strconv"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// Mark says on the span that what it is about has failed, and how: error.type
// and the status have the Kind of err. It does nothing if err is nil.
func Mark(span trace.Span, err error) {
	if err == nil || !span.IsRecording() {
		return
	}
	kind := Kind(err)
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, kind)
}

// Kind returns one of a limited number of names for a failure: the reason of its
// fault, else "canceled" or "timeout", else the gRPC code that it came with, else
// the answer of the database, else the type in Go of what is at its bottom.
func Kind(err error) string {
	if reason := fault.Reason(err); reason != "" {
		return reason
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	var answer interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answer) {
		if name, ok := code.Code_name[int32(answer.GRPCStatus().Code())]; ok {
			return name
		}
		return code.Code_UNKNOWN.String()
	}
	var postgres interface{ SQLState() string }
	if errors.As(err, &postgres) {
		return postgres.SQLState()
	}
	var sqlite interface{ Code() int }
	if errors.As(err, &sqlite) {
		return strconv.Itoa(sqlite.Code())
	}
	return reflect.TypeOf(bottom(err)).String()
}

// bottom returns what err wraps in the end; of several errors, the first.
func bottom(err error) error {
	for {
		var next error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			next = e.Unwrap()
		case interface{ Unwrap() []error }:
			if all := e.Unwrap(); len(all) > 0 {
				next = all[0]
			}
		}
		if next == nil {
			return err
		}
		err = next
	}
}
