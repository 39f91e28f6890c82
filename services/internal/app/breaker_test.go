package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshmart/meshmart/services/internal/breaker"
)

// A service whose target is out stays ready, and tells of it: by the standard
// health protocol, in /readyz?verbose and in its metrics.
func TestBreakersAreVisibleAndDoNotCountForReadiness(t *testing.T) {
	var env *Env
	var b *breaker.Breaker
	r := run(t, nil, func(_ context.Context, e *Env) error {
		env = e
		e.Check("database", func(context.Context) error { return nil })
		stopped := time.Now()
		b = e.Breaker(breaker.Config{
			Target: "payment", Clock: func() time.Time { return stopped },
			Outage: func(error) bool { return true }, Abandoned: func(error) bool { return false },
		})
		return nil
	})
	<-r.ready
	cases := []struct {
		state  breaker.State
		health healthpb.HealthCheckResponse_ServingStatus
		gauge  string
	}{
		{breaker.Closed, healthpb.HealthCheckResponse_SERVING, "0"},
		{breaker.Open, healthpb.HealthCheckResponse_NOT_SERVING, "2"},
	}
	for _, want := range cases {
		if got := r.health(t, "breaker/payment"); got != want.health || env.Out("payment") != (want.state == breaker.Open) {
			t.Errorf("%v: health is %v, known to be out %v", want.state, got, env.Out("payment"))
		}
		if got := r.health(t, ""); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%v: the service itself is %v", want.state, got)
		}
		for path, text := range map[string]string{
			"/readyz":         "ok\n",
			"/readyz?verbose": "[+]database ok\n[ ]breaker payment " + want.state.String() + "\nok\n",
			"/metrics":        `circuit_breaker_state{service_name="test",target="payment"} ` + want.gauge + "\n",
		} {
			code, body := env.get(path)
			if code != http.StatusOK || body != text && (path != "/metrics" || !strings.Contains(body, text)) {
				t.Errorf("%v: %s: %d %.300s", want.state, path, code, body)
			}
		}
		for range breaker.Row {
			b.Do(t.Context(), func() error { return errors.New("out") })
		}
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
}

func (e *Env) get(path string) (int, string) {
	w := httptest.NewRecorder()
	e.opsHandler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestEveryCheckIsTold(t *testing.T) {
	looked := make(chan struct{}, 100)
	var env *Env
	r := run(t, nil, func(_ context.Context, e *Env) error {
		env = e
		e.Check("database", func(context.Context) error { return errors.New("away") })
		e.Check("broker", func(context.Context) error { looked <- struct{}{}; return nil })
		return nil
	})
	<-looked
	<-looked // the first look is over
	code, body := env.get("/readyz?verbose")
	if want := "[-]database: away\n[+]broker ok\nnot ready: database: away\n"; code != http.StatusServiceUnavailable || body != want {
		t.Errorf("got %d %q, want %q", code, body, want)
	}
	if code, body := env.get("/readyz"); code != http.StatusServiceUnavailable || body != "not ready: database: away\n" {
		t.Errorf("got %d %q", code, body)
	}
	if err := r.stop(t); err != nil {
		t.Error(err)
	}
}
