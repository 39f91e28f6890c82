package greeter

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// handler speaks greeter.v1. It converts and delegates; requests have been
// checked against the contract's rules before they arrive here.
type handler struct {
	greeterpb.UnsafeGreetingServiceServer // a missing method must not compile

	clock    func() time.Time
	draining <-chan struct{}
}

// Greet is a unary RPC.
func (h *handler) Greet(_ context.Context, req *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	return &greeterpb.GreetResponse{Greeting: message(greet(req.GetName(), req.GetLanguage(), 1, h.clock()))}, nil
}

// ListGreetings is a server stream. Send waits while the client does not read
// (flow control), so nothing piles up here.
func (h *handler) ListGreetings(req *greeterpb.ListGreetingsRequest, stream grpc.ServerStreamingServer[greeterpb.ListGreetingsResponse]) error {
	start := cmp.Or(req.GetStart(), 1)
	for n := start; n < start+int64(cmp.Or(req.GetCount(), 10)); n++ {
		select {
		case <-h.draining:
			return fault.Unavailable(time.Second, "the service restarts; go on from start=%d", n)
		default:
		}
		if err := stream.Send(&greeterpb.ListGreetingsResponse{Greeting: message(greet(req.GetName(), "", n, h.clock()))}); err != nil {
			return err
		}
	}
	return nil
}

// RecordGreetings is a client stream. Its reply is made when the client has
// said that it is done.
func (h *handler) RecordGreetings(stream grpc.ClientStreamingServer[greeterpb.RecordGreetingsRequest, greeterpb.RecordGreetingsResponse]) error {
	var s Summary
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&greeterpb.RecordGreetingsResponse{Count: s.Count, Sample: s.Sample, Longest: s.Longest})
		}
		if err != nil {
			return err
		}
		s.add(req.GetName())
	}
}

// ChatGreetings is a bidirectional stream: each message is answered as it
// comes, and the client may wait for the answer or not.
func (h *handler) ChatGreetings(stream grpc.BidiStreamingServer[greeterpb.ChatGreetingsRequest, greeterpb.ChatGreetingsResponse]) error {
	for n := int64(1); ; n++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&greeterpb.ChatGreetingsResponse{Greeting: message(greet(req.GetName(), req.GetLanguage(), n, h.clock()))}); err != nil {
			return err
		}
	}
}

func message(g Greeting) *greeterpb.Greeting {
	return &greeterpb.Greeting{Message: g.Message, Language: g.Language, Number: g.Number, CreateTime: timestamppb.New(g.Time)}
}
