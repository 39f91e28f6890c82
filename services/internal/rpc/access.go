package rpc

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// authenticate returns on whose behalf a call is made, or nil for nobody's, and
// refuses one that its policy does not allow. A token that is presented must be
// valid even where none is needed, as the mesh holds it too: an Istio
// RequestAuthentication refuses a bad token on every route.
//
// Which services may call is asked before: a mesh would not have let others through.
func (s *Server) authenticate(ctx context.Context, p *policy.Policy) (*auth.Principal, error) {
	if err := s.mayCall(ctx, p); err != nil {
		return nil, err
	}
	if p.Access == meshpb.Access_ACCESS_INTERNAL || s.verifier == nil {
		return nil, nil
	}
	token, present, err := auth.Bearer(ctx)
	if err != nil {
		return nil, err
	}
	if !present {
		if p.Access == meshpb.Access_ACCESS_PUBLIC {
			return nil, nil
		}
		return nil, fault.Unauthenticated("TOKEN_MISSING", "sign in first: this needs an access token")
	}
	principal, err := s.verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	if p.Access == meshpb.Access_ACCESS_ADMIN && !principal.Admin() {
		return nil, fault.Denied("ADMIN_REQUIRED", "this is for administrators")
	}
	return principal, nil
}

// mayCall refuses a service that may not call an RPC. Callers are service accounts,
// which certificates prove. Where it is the mesh that sees those, it is only asked
// whether a caller of an INTERNAL RPC is where services are.
func (s *Server) mayCall(ctx context.Context, p *policy.Policy) error {
	if s.cfg.Identity.Mutual() {
		return callerIn(ctx, p.Callers, p.Method)
	}
	if p.Access != meshpb.Access_ACCESS_INTERNAL {
		return nil
	}
	if from, ok := peer.FromContext(ctx); !ok || !s.cfg.Insider(from.Addr) {
		return fault.Denied("INTERNAL_METHOD", "this is for the shop's own services")
	}
	return nil
}

// mayAsk refuses what has no contract, as the policies of meshes do: only the health
// of a service is for all that call it, as they balance by it.
func (s *Server) mayAsk(ctx context.Context, method string) error {
	if !s.cfg.Identity.Mutual() {
		return nil
	}
	var callers []string
	if strings.HasPrefix(method, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
		for _, r := range s.routes {
			if r.policy != nil {
				callers = append(callers, r.policy.Callers...)
			}
		}
	}
	return callerIn(ctx, callers, method)
}

// unwatched is how one is refused who may not ask. gRPC takes a server whose health it
// may not watch for one that is down, and calls would be UNAVAILABLE, and repeated:
// of one that has no health it makes them, and they are refused for what they are.
func unwatched(method string, err error) error {
	if method == healthpb.Health_Watch_FullMethodName {
		return status.Error(codes.Unimplemented, err.Error())
	}
	return err
}

// callerIn refuses a caller whose account is not in a list.
func callerIn(ctx context.Context, callers []string, method string) error {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return fault.Denied("CALLER_UNKNOWN", "nobody has proved to be the caller")
	}
	who, ok := identity.From(from)
	switch {
	case !ok || who.ID == "":
		return fault.Denied("CALLER_UNKNOWN", "the caller's certificate has no SPIFFE id")
	case who.Account == "" || !slices.Contains(callers, who.Account):
		return fault.Denied("CALLER_NOT_ALLOWED", "%s may not call %s", who.ID, method)
	}
	return nil
}

// guarded is the handler of an RPC of gRPC's own.
func (s *Server) guarded(method string, next unaryHandler) unaryHandler {
	return func(srv any, ctx context.Context, decode func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
		if err := s.mayAsk(ctx, method); err != nil {
			return nil, err
		}
		return next(srv, ctx, decode, outer)
	}
}

// codeName spells a code as the gRPC specification does: NOT_FOUND.
func codeName(c codes.Code) string {
	if name, ok := code.Code_name[int32(c)]; ok {
		return name
	}
	return c.String()
}
