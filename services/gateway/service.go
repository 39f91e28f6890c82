// Package gateway is the shop's door for browsers and everything else that
// speaks HTTP and JSON: it turns REST into the gRPC calls that the contracts'
// google.api.http options name, streams into server-sent events, and serves the
// API's description and the console page.
//
// It keeps no state and decides nothing: who may do what is the services' own
// matter. What it adds is the start of every trace, and a clear answer to
// whatever can be wrong with a request before a service sees it.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/grpc"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app"
)

// Options is what a process that holds the gateway can give it. The zero value
// is for a gateway in a process of its own.
type Options struct {
	// Traces is where the console reads traces; nil if they are kept elsewhere.
	Traces TraceReader
	// Ready tells why the process as a whole is not ready, for /readyz; nil if
	// the gateway is all there is.
	Ready func() error
}

type config struct {
	Addr                string   `env:"HTTP_ADDR" envDefault:":8080" doc:"where REST and the console are served"`
	MaxBody             int64    `env:"HTTP_MAX_BODY" envDefault:"1048576" doc:"bytes of a request, or of one message of a stream, at most"`
	TrustedTraceCallers networks `env:"TRUSTED_TRACE_CALLERS" doc:"networks whose callers' traces are continued, such as 10.0.0.0/8; several with commas between; empty: each request begins a trace"`
	TrustedProxies      int      `env:"TRUSTED_PROXIES" envDefault:"0" doc:"how many proxies in front add to X-Forwarded-For: the client is the one that the first of them saw"`
	CORSOrigins         []string `env:"CORS_ORIGINS" doc:"origins whose pages may call the API, such as https://shop.example; several with commas between; empty: none"`
	JaegerURL           string   `env:"JAEGER_URL" doc:"where people find traces, such as http://localhost:16686; the console links to it"`
}

// Validate checks what the types alone do not say.
func (c *config) Validate() error {
	var errs []error
	if c.MaxBody < 1 {
		errs = append(errs, fmt.Errorf("HTTP_MAX_BODY: %d is not positive", c.MaxBody))
	}
	if c.TrustedProxies < 0 {
		errs = append(errs, fmt.Errorf("TRUSTED_PROXIES: %d is negative", c.TrustedProxies))
	}
	for _, o := range c.CORSOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != o {
			errs = append(errs, fmt.Errorf("CORS_ORIGINS: %q is not an origin such as https://shop.example", o))
		}
	}
	if u, err := url.Parse(c.JaegerURL); c.JaegerURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, errors.New("JAEGER_URL: not an http or https address"))
	}
	return errors.Join(errs...)
}

// New returns the service. Without options it runs in a process of its own.
func New(opts ...Options) app.Service {
	cfg, opt := &config{}, Options{}
	if len(opts) > 0 {
		opt = opts[0]
	}
	return app.Service{
		Name:   "gateway",
		Doc:    "REST and JSON for the public RPCs, server-sent events, the API's description and the console",
		Calls:  calls(),
		Config: cfg,
		Start: func(_ context.Context, env *app.Env) error {
			h, err := newHandler(env, cfg, opt)
			if err != nil {
				return err
			}
			env.ServeHTTP(cfg.Addr, h)
			return nil
		},
	}
}

// newHandler wires everything that is served over HTTP.
func newHandler(env *app.Env, cfg *config, opt Options) (http.Handler, error) {
	a, err := newAPI(env, cfg)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", a)
	mux.Handle("/.well-known/jwks.json", only(http.HandlerFunc(a.serveKeys)))
	mux.Handle("/console/traces/{trace_id}", only(&traces{reader: opt.Traces, jaeger: cfg.JaegerURL}))
	mux.Handle("/console/status", only(&conditions{env: env, services: calls(), conns: a.conns}))
	mux.Handle("/metrics", only(env.MetricsHandler()))
	mux.Handle("/healthz", only(http.HandlerFunc(serveHealthy)))
	mux.Handle("/readyz", only(serveReady(env, opt.Ready)))
	if err := servePages(mux); err != nil {
		return nil, err
	}
	mux.HandleFunc("/", serveNothing)
	return observe(env, cfg, secure(allowOrigins(cfg.CORSOrigins, mux)))
}

// newAPI connects to the services and reads the routes from their contracts.
func newAPI(env *app.Env, cfg *config) (*api, error) {
	conns := map[string]grpc.ClientConnInterface{}
	for _, name := range calls() {
		cc, err := env.Dial(name)
		if err != nil {
			return nil, err
		}
		conns[name] = cc
	}
	routes, err := newRoutes(contracts())
	if err != nil {
		return nil, err
	}
	a := &api{
		routes: routes, conns: conns, users: userpb.NewAuthServiceClient(conns["user"]),
		maxBody: cfg.MaxBody, bodyTime: 30 * time.Second, heartbeat: 15 * time.Second,
		draining: env.Draining(),
	}
	return a, nil
}

// serveReady answers for the gateway and for whatever else is in its process.
func serveReady(env *app.Env, others func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if others == nil {
			env.ServeReady(w, r)
			return
		}
		reason, detail := others(), []string{"[+]shop ok"}
		if reason != nil {
			detail[0] = "[-]shop: " + reason.Error()
		}
		app.ServeReady(w, r, cmp.Or(reason, env.Ready()), append(detail, env.Detail()...))
	})
}
