package rpc

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// authenticate returns on whose behalf a call is made, or nil for nobody's, and
// refuses one that its policy does not allow. A token that is presented must be
// valid even where none is needed, as the mesh holds it too: an Istio
// RequestAuthentication refuses a bad token on every route.
//
// Who may call an INTERNAL method is a matter of service accounts, which only
// the mesh can tell: there is no end user to look at. Here it is only asked
// whether the caller is where services are.
func (s *Server) authenticate(ctx context.Context, p *policy.Policy) (*auth.Principal, error) {
	if p.Access == meshpb.Access_ACCESS_INTERNAL {
		if from, ok := peer.FromContext(ctx); !ok || !s.cfg.Insider(from.Addr) {
			return nil, fault.Denied("INTERNAL_METHOD", "this is for the shop's own services")
		}
		return nil, nil
	}
	if s.verifier == nil {
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

// codeName spells a code as the gRPC specification does: NOT_FOUND.
func codeName(c codes.Code) string {
	if name, ok := code.Code_name[int32(c)]; ok {
		return name
	}
	return c.String()
}
