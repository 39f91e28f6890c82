package gateway

import (
	"encoding/json"
	"strings"
	"testing"
)

type fixed []Span

func (f fixed) Spans(id string) []Span {
	if id != aTrace {
		return nil
	}
	return f
}

const aTrace = "0af7651916cd43dd8448eb211c80319c"

func TestTraceIsServedInOrder(t *testing.T) {
	s := start(t, map[string]string{"JAEGER_URL": "http://jaeger:16686"}, Options{Traces: fixed{
		{SpanID: "b", ParentID: "a", Service: "order", Name: "Create", StartUnixNanos: 1790000000000000002, DurationNanos: 5},
		{SpanID: "a", Service: "gateway", Name: "POST /v1/orders", StartUnixNanos: 1790000000000000001, DurationNanos: 9},
	}})
	r := s.do("GET", "/console/traces/"+aTrace, "")
	var got struct {
		TraceID string `json:"trace_id"`
		URL     string
		Spans   []Span
	}
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || got.TraceID != aTrace || len(got.Spans) != 2 {
		t.Fatalf("got %s: %v", r.body, err)
	}
	if got.Spans[0].SpanID != "a" || got.Spans[1].StartUnixNanos != 1790000000000000002 || got.URL != "http://jaeger:16686/trace/"+aTrace {
		t.Errorf("got %+v", got)
	}
}

func TestTraceThatIsNotHere(t *testing.T) {
	for _, tt := range []struct {
		opts []Options
		id   string
		code int
		text string
	}{
		{nil, aTrace, 404, "kept in Jaeger"},
		{[]Options{{Traces: fixed{}}}, aTrace, 404, "not among the last"},
		{[]Options{{Traces: fixed{}}}, "xyz", 400, "hexadecimal"},
	} {
		r := start(t, nil, tt.opts...).do("GET", "/console/traces/"+tt.id, "")
		if r.StatusCode != tt.code || !strings.Contains(r.status.Message, tt.text) {
			t.Errorf("%s: got %d %s", tt.id, r.StatusCode, r.body)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, c := range []config{
		{MaxBody: 0}, {MaxBody: 1, TrustedProxies: -1}, {MaxBody: 1, CORSOrigins: []string{"*"}},
		{MaxBody: 1, CORSOrigins: []string{"https://a.example/"}}, {MaxBody: 1, JaegerURL: "javascript:alert(1)"},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	ok := config{MaxBody: 1, CORSOrigins: []string{"https://a.example:8443"}, JaegerURL: "http://localhost:16686"}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
}
