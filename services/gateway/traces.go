package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// Span is one span of a trace, as the console shows it.
type Span struct {
	SpanID         string            `json:"span_id"`
	ParentID       string            `json:"parent_id"` // "" for the first
	Service        string            `json:"service"`
	Name           string            `json:"name"`
	Kind           string            `json:"kind"` // "server", "client", "producer", "consumer", "internal"
	StartUnixNanos int64             `json:"start_unix_nanos,string"`
	DurationNanos  int64             `json:"duration_nanos,string"`
	Status         string            `json:"status"` // "Unset", "Ok", "Error"
	Attributes     map[string]string `json:"attributes"`
}

// TraceReader knows the spans of recent traces.
type TraceReader interface {
	// Spans returns what is known of a trace by its id in hexadecimal digits;
	// nothing if it is not known.
	Spans(traceID string) []Span
}

// traces serves the traces that the process keeps.
type traces struct {
	reader TraceReader // nil: they are kept elsewhere
	jaeger string      // where people find them; "" for nowhere
}

// ServeHTTP answers with the spans of a trace, first things first. Whoever knows
// the id of a trace may see it: it is told to the owner of the order alone.
func (t *traces) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("trace_id")
	link := ""
	if t.jaeger != "" {
		link = strings.TrimSuffix(t.jaeger, "/") + "/trace/" + id
	}
	if _, err := trace.TraceIDFromHex(id); err != nil {
		fail(w, r, fault.Invalid("trace_id", "must be 32 hexadecimal digits in lower case, not all zero"))
		return
	}
	if t.reader == nil {
		fail(w, r, fault.NotFound("traces are kept in Jaeger, not here").With("url", link))
		return
	}
	spans := t.reader.Spans(id)
	if len(spans) == 0 {
		fail(w, r, fault.NotFound("trace %s is not among the last ones", id).With("url", link))
		return
	}
	slices.SortStableFunc(spans, func(a, b Span) int { return int(a.StartUnixNanos - b.StartUnixNanos) })
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"trace_id": id, "spans": spans, "url": link}) // the client is gone: nobody to tell
}
