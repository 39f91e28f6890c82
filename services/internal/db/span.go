package db

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation.
const scope = "github.com/meshmart/meshmart/services/internal/db"

// span begins the span of a statement, or returns nil: only what belongs to a
// trace that is kept has one. So what a service does by itself begins no traces,
// and costs nothing. The caller's own span may have ended: a saga outlives the
// call that it began in.
func (c *core) span(ctx context.Context, query string) trace.Span {
	if c.tracer == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	s := summarize(query)
	attrs := make([]attribute.KeyValue, 0, 8)
	attrs = append(attrs, c.place...)
	attrs = append(attrs, semconv.DBOperationName(s.operation), semconv.DBQuerySummary(s.text), semconv.DBQueryText(query))
	if s.table != "" {
		attrs = append(attrs, semconv.DBCollectionName(s.table))
	}
	_, span := c.tracer.Start(ctx, s.text, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	return span
}

// endSpan ends a span that may be nil. The text of the error is left out: it may
// have values of the statement in it.
func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		kind := responseCode(err)
		if kind != "" {
			span.SetAttributes(semconv.DBResponseStatusCode(kind))
		} else {
			kind = errorKind(err)
		}
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

// errorKind names a failure without an answer of the engine.
func errorKind(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case IsUnavailable(err):
		return "unavailable"
	case errors.As(err, new(*uncertain)):
		return "outcome_unknown"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}

// responseCode returns what the engine answered with, or "" if it did not.
func responseCode(err error) string {
	if code := sqliteCode(err); code != 0 {
		return strconv.Itoa(code)
	}
	return postgresCode(err)
}

// summary is what a statement does, without how.
type summary struct {
	operation string // its first word, "INSERT"
	table     string // the one table that it names, or ""
	text      string // each operation and its tables in their order, "INSERT orders"
}

// maxSummary bounds a summary, as the conventions do.
const maxSummary = 255

// summarize reads the SQL that this package is given; what it does not
// understand it leaves out.
func summarize(query string) summary {
	var text, tables []string
	before, named := "", false // the next word is that of a table
	for word := range strings.FieldsSeq(query) {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "("), "(")
		name = strings.TrimRight(name, ",;)")
		if name == "" {
			continue
		}
		upper := strings.ToUpper(name)
		operation := isOperation(upper, before)
		switch {
		case named && !operation:
			text, tables = append(text, name), append(tables, name)
		case operation || len(text) == 0:
			text = append(text, upper)
		}
		named = upper == "INTO" || upper == "FROM" || upper == "JOIN" || operation && upper == "UPDATE"
		before = upper
	}
	if len(text) == 0 {
		return summary{}
	}
	s := summary{operation: text[0], text: strings.Join(text, " ")}
	if tables = slices.Compact(tables); len(tables) == 1 {
		s.table = tables[0]
	}
	s.text = s.text[:min(len(s.text), maxSummary)]
	return s
}

// isOperation reports whether word begins a statement or a part of one; the
// UPDATE of an upsert does not.
func isOperation(word, before string) bool {
	switch word {
	case "SELECT", "INSERT", "DELETE":
		return true
	case "UPDATE":
		return before != "DO" && before != "FOR"
	}
	return false
}
