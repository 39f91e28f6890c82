package plane

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Attempt is one attempt of a call, as a server saw it.
type Attempt struct {
	// Server is the name of the replica.
	Server string
	// At is when it came in, and Deadline until when it may take: zero for ever.
	At, Deadline time.Time
}

// record is what all servers have seen, by the number of the call.
type record struct {
	mu       sync.Mutex
	attempts map[string][]Attempt
}

func (r *record) add(call string, a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts[call] = append(r.attempts[call], a)
}

// take returns the attempts of a call and forgets them.
func (r *record) take(call string) []Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer delete(r.attempts, call)
	return r.attempts[call]
}

// Metadata of calls: their number, and what the server is to do.
const (
	headerCall = "x-call"
	headerFail = "x-fail" // with UNAVAILABLE, every attempt
)

// Server is one replica that answers every RPC there is, empty.
type Server struct {
	Node   Node
	grpc   *xds.GRPCServer
	record *record
	mode   chan xds.ServingModeChangeArgs
}

// startServer runs a replica and returns when istiod has told it whom to serve.
func startServer(ctx context.Context, i *Istiod, n Node, port uint32, r *record) (*Server, error) {
	s := &Server{Node: n, record: r, mode: make(chan xds.ServingModeChangeArgs, 16)}
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, err
	}
	s.grpc, err = xds.NewGRPCServer(grpc.Creds(creds), xds.BootstrapContentsForTesting(n.Bootstrap(i.XDS)),
		xds.ServingModeCallback(func(_ net.Addr, m xds.ServingModeChangeArgs) {
			select {
			case s.mode <- m:
			default:
			}
		}), grpc.UnknownServiceHandler(s.answer))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", n.IP, port))
	if err != nil {
		return nil, err
	}
	go func() { _ = s.grpc.Serve(l) }() // which ends with Stop
	return s, s.serving(ctx)
}

func (s *Server) serving(ctx context.Context) error {
	for {
		select {
		case m := <-s.mode:
			if m.Mode == connectivity.ServingModeServing {
				return nil
			}
			if m.Err != nil {
				return fmt.Errorf("%s does not serve: %w", s.Node.Name, m.Err)
			}
		case <-ctx.Done():
			return fmt.Errorf("%s was told nothing by istiod: %w", s.Node.Name, ctx.Err())
		}
	}
}

func (s *Server) answer(_ any, stream grpc.ServerStream) error {
	now, ctx := time.Now(), stream.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	deadline, _ := ctx.Deadline()
	for _, call := range md.Get(headerCall) {
		s.record.add(call, Attempt{s.Node.Name, now, deadline})
	}
	if len(md.Get(headerFail)) > 0 {
		return status.Error(codes.Unavailable, "told to fail")
	}
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	return stream.SendMsg(&emptypb.Empty{})
}

// Stop ends it once the calls under way have ended.
func (s *Server) Stop() { s.grpc.GracefulStop() }

// Close ends it at once.
func (s *Server) Close() { s.grpc.Stop() }

// Count tells how often each server was called.
func Count(attempts []Attempt) map[string]int {
	n := map[string]int{}
	for _, a := range attempts {
		n[a.Server]++
	}
	return n
}

// Names are the servers of a Count, sorted.
func Names(count map[string]int) []string { return slices.Sorted(maps.Keys(count)) }
