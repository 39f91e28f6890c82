package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshmart/meshmart/services/internal/app"
)

func TestATraceIsContinuedForTrustedCallersAlone(t *testing.T) {
	const theirs = "0af7651916cd43dd8448eb211c80319c"
	for _, tt := range []struct {
		about, trusted, proxies, forwarded string
		continued                          bool
	}{
		{"nobody is trusted", "", "0", "", false},
		{"the peer is", "10.0.0.0/8, 127.0.0.0/8", "0", "", true},
		{"another is", "10.0.0.0/8,::1/128", "0", "", false},
		{"without proxies the header is anybody's claim", "10.0.0.0/8", "0", "10.0.0.1", false},
		{"the client is", "10.0.0.0/8", "1", "10.0.0.1", true},
		{"the client claims to be", "10.0.0.0/8", "1", "10.0.0.1, 1.2.3.4", false},
		{"the proxy is, and not its client", "127.0.0.0/8", "1", "1.2.3.4", false},
		{"the proxy says nothing", "127.0.0.0/8", "1", "", false},
		{"a proxy was passed by", "127.0.0.0/8,10.0.0.0/8", "2", "10.0.0.1", false},
		{"the proxy says nonsense", "0.0.0.0/0,::/0", "1", "nonsense", false},
		{"everybody is", "0.0.0.0/0,::/0", "0", "", true},
	} {
		s := start(t, map[string]string{"TRUSTED_TRACE_CALLERS": tt.trusted, "TRUSTED_PROXIES": tt.proxies})
		r := s.do("GET", "/v1/products/"+anID, "", "Traceparent: 00-"+theirs+"-b7ad6b7169203331-01", "Tracestate: vendor=secret",
			"Baggage: user=eve", "X-Forwarded-For: "+tt.forwarded, "Grpc-Metadata-Traceparent: 00-"+theirs+"-b7ad6b7169203331-01")
		id := r.Header.Get("X-Trace-Id")
		if len(id) != 32 || (id == theirs) != tt.continued || !strings.Contains(r.Header.Get("Traceparent"), id) {
			t.Errorf("%s: got trace %q", tt.about, id)
		}
		_, meta := s.heard()
		if got := meta.Get("traceparent"); len(got) != 1 || !strings.Contains(got[0], id) {
			t.Errorf("%s: the service is told %q", tt.about, got)
		}
		if got := meta.Get("tracestate"); (len(got) == 1) != tt.continued {
			t.Errorf("%s: the service is told the trace state %q", tt.about, got)
		}
		if got := meta.Get("baggage"); len(got) != 0 {
			t.Errorf("%s: the service is told the baggage %q", tt.about, got)
		}
	}
}

// Whether a trace is kept is decided here: nobody can have all of theirs kept, or
// none.
func TestAClientHasNoSayInSampling(t *testing.T) {
	for ratio, kept := range map[string]string{"0": "00", "1": "01"} {
		for _, flag := range []string{"00", "01"} {
			for trusted, want := range map[string]string{"": kept, "127.0.0.0/8": flag} {
				s := start(t, map[string]string{"TRACE_RATIO": ratio, "TRUSTED_TRACE_CALLERS": trusted})
				r := s.do("GET", "/v1/products/"+anID, "", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"+flag)
				if got := r.Header.Get("Traceparent"); !strings.HasSuffix(got, "-"+want) {
					t.Errorf("at a ratio of %s, trusted %q, who says %s got %s, want %s", ratio, trusted, flag, got, want)
				}
			}
		}
	}
}

func TestTrustedNetworksAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8, ::1/128": "",
		"":                    "",
		"10.0.0.1":            `"10.0.0.1" is no range`,
		"10.0.0.1/8":          "that is 10.0.0.0/8",
		"10.0.0.0/8,":         `"" is no range`,
		"all":                 `"all" is no range`,
	} {
		err := app.LoadEnv(&config{}, map[string]string{"TRUSTED_TRACE_CALLERS": text})
		if (err == nil) != (want == "") || err != nil && (!strings.HasPrefix(err.Error(), "TRUSTED_TRACE_CALLERS: ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// FuzzWhoIsTrusted: whatever a header says, who is trusted is in the networks, and
// is where the outermost proxy has written its peer.
func FuzzWhoIsTrusted(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "1.2.3.4, 10.0.0.1", "10.0.0.1, 1.2.3.4", "::ffff:10.0.0.1", "fe80::1%10.0.0.1", ",", "10.0.0.1,", " 10.0.0.1 ", "010.0.0.1"} {
		for proxies := range 3 {
			f.Add(seed, "192.0.2.1:80", proxies)
		}
	}
	f.Add("", "10.0.0.1:1234", 0)
	f.Add("", "[::ffff:10.0.0.1]:1234", 0)
	f.Add("", "@", 0)
	inside := networks{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, header, peer string, proxies int) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {header}}}
		proxies = max(0, proxies%4)
		if !inside.include(caller(r, proxies)) {
			return
		}
		from := peer
		if proxies > 0 {
			hops := strings.Split(header, ",")
			from = hops[len(hops)-proxies] // or it would have panicked: too few are not trusted
		}
		if !strings.Contains(from, "10.") && !strings.Contains(strings.ToLower(from), "a") { // ::ffff:a00:1 is 10.0.0.1, too
			t.Errorf("%q by %d proxies, from %q, is trusted as %q", header, proxies, peer, caller(r, proxies))
		}
	})
}

func TestLogLineHasTheRouteAndNoSecrets(t *testing.T) {
	s := start(t, nil)
	r := s.do("GET", "/v1/products/"+anID+"?secret=hunter2", "", "Authorization: Bearer hunter2")
	got := s.log.find(t, "trace_id", r.Header.Get("X-Trace-Id"))
	if us, ok := got["us"].(float64); !ok || us <= 0 {
		t.Errorf("took %v", got["us"])
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

func TestSpansHaveTheRoute(t *testing.T) {
	s := start(t, nil)
	s.do("GET", "/v1/products/"+anID, "")
	s.do("GET", "/v1/nothing/"+anID, "")
	want := []string{"GET /v1/products/{id} of /v1/products/{id}", "GET of "}
	var got []string
	for deadline := time.Now().Add(time.Minute); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = nil // a span may end after its answer has come
		for _, span := range s.spans.GetSpans() {
			if span.SpanKind == trace.SpanKindServer && span.InstrumentationScope.Name == otelhttp.ScopeName {
				set := attribute.NewSet(span.Attributes...)
				route, _ := set.Value("http.route")
				got = append(got, span.Name+" of "+route.AsString())
			}
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsAreByRoute(t *testing.T) {
	s := start(t, nil)
	s.do("GET", "/v1/products/"+anID, "", "Host: evil.example")
	s.do("GET", "/v1/nothing/"+anID, "")
	s.do("BREW", "/v1/products/"+anID, "")
	got := s.do("GET", "/metrics", "").body
	const series, place = "http_server_request_duration_seconds_count{http_request_method=",
		`network_protocol_name="http",network_protocol_version="1.1",server_address="gateway",service_name="gateway",url_scheme="http"} 1`
	for _, want := range []string{ // as the semantic conventions have it
		series + `"GET",http_response_status_code="200",http_route="/v1/products/{id}",` + place,
		series + `"GET",http_response_status_code="404",` + place,
		series + `"_OTHER",http_response_status_code="405",http_route="/v1/",` + place,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, anID) || strings.Contains(got, "127.0.0.1") || strings.Contains(got, "BREW") {
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
