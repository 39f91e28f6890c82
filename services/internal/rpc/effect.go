package rpc

import (
	"context"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/faultpoint"
	"github.com/meshmart/meshmart/services/internal/policy"
)

// witness stands between the guard of a connection and its transport, and notes
// what a call may have changed at its target.
type witness struct{ point faultpoint.Hook }

// unary makes a call of an RPC whose policy is p, nil if it has none. By is told who
// answers; nil if nobody needs to know.
func (w witness) unary(ctx context.Context, p *policy.Policy, by *peer.Peer, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name, changes := strings.TrimPrefix(method, "/"), p == nil || !p.ReadOnly
	if changes && by == nil {
		by = &peer.Peer{}
	}
	if by != nil {
		opts = append(opts[:len(opts):len(opts)], grpc.Peer(by))
	}
	w.point.At("before call of ", name)
	err := invoke(ctx, method, req, reply, cc, opts...)
	if changes && affected(err, by.Addr != nil) {
		effect.Note(ctx)
	}
	w.point.At("after call of ", name)
	return err
}

// stream counts a stream that is open as an effect, whatever becomes of it: its
// messages take effect one by one.
func (w witness) stream(ctx context.Context, p *policy.Policy, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	w.point.At("before call of ", strings.TrimPrefix(method, "/"))
	s, err := open(ctx, desc, cc, method, opts...)
	if (p == nil || !p.ReadOnly) && err == nil {
		effect.Note(ctx)
	}
	return s, err
}

// affected reports whether a call that ended with err may have changed something
// at its target. Sent says that there was a connection to send it on: gRPC can't
// tell whether what is lost in mid-call had arrived. Nor can gRPC or a proxy that
// says UNAVAILABLE on behalf of a target; only the target itself can, and then a
// fault is in it.
func affected(err error, sent bool) bool {
	if !sent {
		return false
	}
	switch s := status.Convert(err); s.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unauthenticated, codes.Unimplemented:
		return false // a refusal
	case codes.Unavailable, codes.ResourceExhausted: // gRPC says the latter of a reply that is too long
		return !ofService(s)
	}
	return true // also ABORTED: payment says so of a change whose outcome is open
}

// ofService reports whether a service has answered so, and nobody on the way to it.
func ofService(s *status.Status) bool {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == fault.Domain {
			return true
		}
	}
	return false
}
