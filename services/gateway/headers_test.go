package gateway

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/meshmart/meshmart/services/internal/rpc"
)

// newRecorder serves one request with h below the log.
func newRecorder(t *testing.T, log *logLines, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	lines := slog.NewJSONHandler(log, nil)
	rs, err := measure(noop.NewMeterProvider(), lines)
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	(&observer{cfg: &config{}, log: lines, roots: rpc.Ratio(0), next: h, requests: rs}).ServeHTTP(rec, httptest.NewRequest("GET", "/v1/x", nil))
	return rec
}

func TestEveryAnswerIsSafeForBrowsers(t *testing.T) {
	s := start(t, nil)
	for _, path := range []string{"/", "/docs", "/v1/products", "/v1/nothing", "/console/app.js"} {
		r := s.send("GET", path, "")
		for k, want := range map[string]string{
			"Content-Security-Policy": policyOfContent, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": "",
		} {
			if got := r.Header.Get(k); got != want {
				t.Errorf("%s: got %s %q", path, k, got)
			}
		}
	}
}

func TestOnlyNamedOriginsMayCall(t *testing.T) {
	s := start(t, map[string]string{"CORS_ORIGINS": "https://a.example,https://b.example"})
	for origin, want := range map[string]string{"https://b.example": "https://b.example", "https://evil.example": "", "null": ""} {
		r := s.send("GET", "/v1/products", "", "Origin: "+origin)
		if got := r.Header.Get("Access-Control-Allow-Origin"); got != want || r.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: allowed %q", origin, got)
		}
		r = s.send("OPTIONS", "/v1/orders", "", "Origin: "+origin, "Access-Control-Request-Method: POST")
		if allowed := r.StatusCode == 204; allowed != (want != "") || allowed != (r.Header.Get("Access-Control-Allow-Headers") != "") {
			t.Errorf("%s: preflight answered %d", origin, r.StatusCode)
		}
	}
}
