package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshmart/meshmart/tests/testbed"
	"github.com/meshmart/meshmart/tests/tracetree"
)

// jaeger asks a Jaeger for traces, by the API that its own pages use.
type jaeger struct{ url string }

// spans returns the spans of all traces that have one from since on: it searches
// for their ids, service by service, and then reads each.
func (j jaeger) spans(ctx context.Context, since time.Time) ([]tracetree.Span, error) {
	ids := map[string]bool{}
	for _, service := range testbed.Services {
		found, err := j.traces(ctx, "?"+url.Values{
			"service": {service}, "limit": {"1000"},
			"start": {fmt.Sprint(since.UnixMicro())}, "end": {fmt.Sprint(time.Now().Add(time.Minute).UnixMicro())},
		}.Encode())
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			ids[t.TraceID] = true
		}
	}
	var spans []tracetree.Span
	for id := range ids {
		found, err := j.traces(ctx, "/"+id)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			spans = append(spans, t.spans()...)
		}
	}
	return spans, nil
}

// jaegerTrace is a trace as Jaeger shows it.
type jaegerTrace struct {
	TraceID   string
	Processes map[string]struct{ ServiceName string }
	Spans     []struct {
		TraceID, SpanID, OperationName, ProcessID string
		StartTime                                 int64 // in microseconds
		References                                []struct{ RefType, TraceID, SpanID string }
		Tags                                      []struct {
			Key   string
			Value any
		}
	}
}

func (j jaeger) traces(ctx context.Context, path string) ([]jaegerTrace, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url+"/api/traces"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var reply struct{ Data []jaegerTrace }
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("jaeger: %s: %s", resp.Status, text)
	}
	err = json.Unmarshal(text, &reply)
	return reply.Data, err
}

func (t jaegerTrace) spans() []tracetree.Span {
	spans := make([]tracetree.Span, len(t.Spans))
	for i, s := range t.Spans {
		spans[i] = tracetree.Span{
			Trace: s.TraceID, ID: s.SpanID, Name: s.OperationName, Kind: "internal",
			Service: t.Processes[s.ProcessID].ServiceName, Start: time.UnixMicro(s.StartTime),
		}
		for _, r := range s.References {
			if r.RefType == "CHILD_OF" {
				spans[i].Parent = r.SpanID
			}
		}
		for _, tag := range s.Tags {
			switch tag.Key {
			case "span.kind":
				spans[i].Kind = fmt.Sprint(tag.Value)
			case "error":
				spans[i].Failed = tag.Value == true
			case "db.system.name":
				spans[i].Statement = true
			}
		}
	}
	return spans
}

// TestSpansOfJaeger reads what Jaeger answers: above all, it names the parent of a
// span also if it does not have it.
func TestSpansOfJaeger(t *testing.T) {
	const text = `{"traceID": "1", "processes": {"p1": {"serviceName": "order"}}, "spans": [
		{"traceID": "1", "spanID": "2", "operationName": "saga void", "references": [{"refType": "CHILD_OF", "traceID": "1", "spanID": "gone"}],
		 "startTime": 5000000, "tags": [{"key": "error", "type": "bool", "value": true}], "processID": "p1"},
		{"traceID": "1", "spanID": "3", "operationName": "COMMIT", "references": [{"refType": "CHILD_OF", "traceID": "1", "spanID": "2"}],
		 "startTime": 6000000, "tags": [{"key": "span.kind", "value": "client"}, {"key": "db.system.name", "value": "sqlite"}], "processID": "p1"}]}`
	var got jaegerTrace
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := []tracetree.Span{
		{Trace: "1", ID: "2", Parent: "gone", Service: "order", Kind: "internal", Name: "saga void", Failed: true, Start: time.Unix(5, 0)},
		{Trace: "1", ID: "3", Parent: "2", Service: "order", Kind: "client", Name: "COMMIT", Statement: true, Start: time.Unix(6, 0)},
	}
	if diff := cmp.Diff(want, got.spans()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
