package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequestBeginsATraceOfItsOwn(t *testing.T) {
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	for trust, continued := range map[string]bool{"false": false, "true": true} {
		s := start(t, map[string]string{"TRUST_TRACE_CONTEXT": trust})
		r := s.do("GET", "/v1/products/"+anID, "", "Traceparent: 00-"+theirs+"-b7ad6b7169203331-01")
		id := r.Header.Get("X-Trace-Id")
		if len(id) != 32 || (id == theirs) != continued || !strings.Contains(r.Header.Get("Traceparent"), id) {
			t.Errorf("trust %s: got trace %q", trust, id)
		}
		_, meta := s.heard()
		if got := strings.Join(meta.Get("traceparent"), " "); !strings.Contains(got, id) {
			t.Errorf("trust %s: the service is told %q", trust, got)
		}
	}
}

func TestLogLineHasTheRouteAndNoSecrets(t *testing.T) {
	s := start(t, nil)
	r := s.do("GET", "/v1/products/"+anID+"?secret=hunter2", "", "Authorization: Bearer hunter2")
	got := s.log.find(t, "trace_id", r.Header.Get("X-Trace-Id"))
	if ms, ok := got["ms"].(float64); !ok || ms <= 0 {
		t.Errorf("took %v", got["ms"])
	}
	want := map[string]any{"msg": "request", "method": "GET", "route": "/v1/products/{id}", "status": 400.0, "reason": "INVALID_FIELD"}
	for k, v := range want {
		if diff := cmp.Diff(got[k], v); diff != "" {
			t.Errorf("%s: %s", k, diff)
		}
	}
	for _, l := range s.log.all() {
		for _, v := range l {
			if text, ok := v.(string); ok && strings.Contains(text, "hunter2") {
				t.Errorf("logged: %v", l)
			}
		}
	}
}

func TestMetricsAreByRoute(t *testing.T) {
	s := start(t, nil)
	s.do("GET", "/v1/products/"+anID, "", "Host: evil.example")
	s.do("GET", "/v1/nothing/"+anID, "")
	got := s.do("GET", "/metrics", "").body
	for _, want := range []string{
		`http_server_request_duration_seconds_count{`, `http_route="/v1/products/{id}"`, `server_address="gateway"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, anID) || strings.Contains(got, "127.0.0.1") {
		t.Error("a metric for each thing that clients say")
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	s := start(t, nil)
	s.refuse(nil)
	log := &logLines{}
	rec := newRecorder(t, log, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }))
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "oops") {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if got := log.find(t, "msg", "panic"); got["panic"] != "oops" || !strings.Contains(got["stack"].(string), "observe_test.go") {
		t.Errorf("got %v", got)
	}
	if got := log.find(t, "msg", "request"); got["status"] != 500.0 {
		t.Errorf("got %v", got)
	}
}

func TestClientIsWhoTheOutermostProxySaw(t *testing.T) {
	for _, tt := range []struct{ proxies, header, want string }{
		{"0", "1.2.3.4", "127.0.0.1"},
		{"1", "6.6.6.6, 1.2.3.4", "1.2.3.4"},
		{"2", "6.6.6.6, 1.2.3.4, 10.0.0.1", "1.2.3.4"},
		{"1", "", "127.0.0.1"},
		{"1", "nonsense", "127.0.0.1"},
		{"1", "2001:db8::1", "2001:db8::1"},
	} {
		s := start(t, map[string]string{"TRUSTED_PROXIES": tt.proxies})
		s.do("GET", "/v1/products/"+anID, "", "X-Forwarded-For: "+tt.header)
		_, meta := s.heard()
		if got := strings.Join(meta.Get("x-forwarded-for"), "|"); got != tt.want {
			t.Errorf("%s behind %s: got %s, want %s", tt.header, tt.proxies, got, tt.want)
		}
	}
}

func TestRequestUnderWayFinishesAtDrain(t *testing.T) {
	s := start(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	s.answer = func(context.Context) error { close(entered); <-leave; return nil }
	s.mu.Unlock()
	answered := make(chan int)
	go func() { answered <- s.do("GET", "/v1/products", "").StatusCode }()
	<-entered
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stopped with a request under way")
	case code := <-answered:
		t.Errorf("answered %d too early", code)
	default:
	}
	close(leave)
	if code := <-answered; code != 200 {
		t.Errorf("got %d", code)
	}
	<-stopped
}
