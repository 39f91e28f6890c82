package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// How often readiness is looked at: often until the service is ready for the
// first time, then at leisure.
const (
	checkFirst = 20 * time.Millisecond
	checkEvery = 2 * time.Second
	checkLimit = time.Second // for one check
)

// Live is the name under which grpc.health.v1 answers SERVING as long as the
// process answers at all: the liveness probe. The empty name and the names of
// the services tell readiness.
const Live = "live"

// BreakerPrefix begins the names under which grpc.health.v1 tells the circuit
// breakers of a service, as "breaker/payment": NOT_SERVING while one is open. A
// target that is out does not make the service that calls it unready.
const BreakerPrefix = "breaker/"

// health keeps grpc.health.v1 and /readyz at what the checks say.
type health struct {
	server  *grpchealth.Server
	grpc    *rpc.Server
	onReady func()
	status  func(error) // nil: nobody is told

	mu       sync.Mutex
	checks   []*check
	breakers []*breaker.Breaker
	reason   error // why the service is not ready; nil when it is
}

type check struct {
	name string
	fn   func(context.Context) error
	err  error // of the last look
}

var errStarting = errors.New("starting")

func newHealth(s *rpc.Server, opt Options) *health {
	h := &health{server: grpchealth.NewServer(), grpc: s, onReady: opt.Ready, status: opt.Status, reason: errStarting}
	healthpb.RegisterHealthServer(s, h.server)
	h.server.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	h.server.SetServingStatus(Live, healthpb.HealthCheckResponse_SERVING)
	return h
}

func (h *health) check(name string, fn func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &check{name, fn, errStarting})
}

// breaker adds a breaker whose states changed is told.
func (h *health) breaker(b *breaker.Breaker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.breakers = append(h.breakers, b)
}

func (h *health) allBreakers() []*breaker.Breaker {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.breakers)
}

// changed implements breaker.Config.Changed.
func (h *health) changed(target string, to breaker.State) {
	status := healthpb.HealthCheckResponse_SERVING
	if to == breaker.Open {
		status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	h.server.SetServingStatus(BreakerPrefix+target, status)
}

// watch keeps the status right until ctx is done.
func (h *health) watch(ctx context.Context) {
	every := checkFirst
	for {
		if h.look(ctx) {
			every = checkEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// look runs the checks, sets the status and reports whether all passed.
func (h *health) look(ctx context.Context) bool {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	var reason error
	for _, c := range checks {
		cctx, cancel := context.WithTimeout(ctx, checkLimit)
		err := c.fn(cctx)
		cancel()
		h.mu.Lock()
		c.err = err
		h.mu.Unlock()
		if err != nil && reason == nil {
			reason = fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if ctx.Err() == nil {
		h.set(reason)
	}
	return reason == nil
}

func (h *health) set(reason error) {
	status := healthpb.HealthCheckResponse_SERVING
	if reason != nil {
		status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	if h.status != nil {
		h.status(reason)
	}
	h.mu.Lock()
	h.reason = reason
	ready := h.onReady
	if reason == nil {
		h.onReady = nil
	}
	h.mu.Unlock()
	h.server.SetServingStatus("", status)
	for name := range h.grpc.GetServiceInfo() {
		h.server.SetServingStatus(name, status)
	}
	if reason == nil && ready != nil {
		ready()
	}
}

// ready returns why the service is not ready, or nil.
func (h *health) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reason
}

// Ready returns nil when the service is ready, and else why it is not.
func (e *Env) Ready() error { return e.health.ready() }

// MetricsHandler serves the process's metrics in Prometheus's format.
func (e *Env) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(e.opt.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// opsHandler is what METRICS_ADDR serves.
func (e *Env) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.MetricsHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", e.ServeReady)
	return mux
}

// ServeReady answers 200 when the service is ready and 503 with the reason when
// it is not. With ?verbose it also tells each check and each circuit breaker.
func (e *Env) ServeReady(w http.ResponseWriter, r *http.Request) {
	ServeReady(w, r, e.Ready(), e.Detail())
}

// ServeReady answers 200, or 503 with the reason why something is not ready;
// with ?verbose, the lines of detail come first.
func ServeReady(w http.ResponseWriter, r *http.Request, reason error, detail []string) {
	text := "ok"
	if reason != nil {
		text = "not ready: " + reason.Error()
	}
	if r.URL.Query().Has("verbose") {
		text = strings.Join(append(detail, text), "\n")
	}
	if reason != nil {
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, text)
}

// Detail returns a line for each check, "[+]database ok" or "[-]database: why",
// and for each circuit breaker, "[ ]breaker payment open", which does not count.
func (e *Env) Detail() []string { return e.health.detail() }

func (h *health) detail() (lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.checks {
		if c.err != nil {
			lines = append(lines, fmt.Sprintf("[-]%s: %v", c.name, c.err))
		} else {
			lines = append(lines, fmt.Sprintf("[+]%s ok", c.name))
		}
	}
	for _, b := range h.breakers { // while h.mu is held: none of them asks for it
		lines = append(lines, fmt.Sprintf("[ ]breaker %s %s", b.Target(), b.State()))
	}
	return lines
}
