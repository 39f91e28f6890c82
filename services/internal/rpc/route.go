package rpc

import (
	"log/slog"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/policy"
)

// route is what a server knows of one RPC and need not find out for each call.
type route struct {
	method string         // in full, "/order.v1.OrderService/GetOrder"
	name   string         // without the first slash
	policy *policy.Policy // nil: its contract has none
	calls  *series        // nil: they are not counted
	log    slog.Handler
	byCode [codes.Unauthenticated + 1]atomic.Pointer[slog.Handler]
}

// route returns that of an RPC which the server has, for as long as it serves.
func (s *Server) route(method string) *route {
	r := s.newRoute(method)
	s.routes[method] = r
	return r
}

// routeOf returns the route of an RPC that is called, be it unknown.
func (s *Server) routeOf(method string) *route {
	if r := s.routes[method]; r != nil {
		return r
	}
	return s.newRoute(method)
}

// newRoute returns a route that nobody keeps: as many RPCs that a server has not
// can be asked for as there are names.
func (s *Server) newRoute(method string) *route {
	r := &route{method: method, name: strings.TrimPrefix(method, "/"), log: s.cfg.Log.Handler()}
	r.policy, _ = policy.Of(method)
	if s.calls != nil {
		r.calls = s.calls.of(method)
	}
	return r
}

// lines returns what writes the lines of calls that end with a code. Most of a
// line is the same for all of them, and is put together once.
func (r *route) lines(c codes.Code) slog.Handler {
	made := func() slog.Handler {
		return r.log.WithAttrs([]slog.Attr{slog.String("method", r.method), slog.String("code", codeName(c))})
	}
	if int(c) >= len(r.byCode) {
		return made() // the specification has no more
	}
	if h := r.byCode[c].Load(); h != nil {
		return *h
	}
	h := made()
	r.byCode[c].Store(&h)
	return h
}
