//go:build !race

package order

import (
	"context"
	"runtime"
	"runtime/metrics"
	"testing"

	"google.golang.org/grpc"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// watcherBytes is what a stream that waits may take more than one of gRPC's own:
// the 3,800 that were measured, and some for chance. Its goroutine's stack is the most of it:
// if that is twice what it was, see package apart.
const watcherBytes = 5000

// quiet is a server with nothing around it, that sends an order and no more.
type quiet struct {
	orderpb.UnimplementedOrderServiceServer
}

func (quiet) WatchOrder(_ *orderpb.WatchOrderRequest, stream grpc.ServerStreamingServer[orderpb.WatchOrderResponse]) error {
	if err := stream.Send(&orderpb.WatchOrderResponse{Order: &orderpb.Order{}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func TestMemoryOfAWatcher(t *testing.T) {
	tn := newTown(t, dbtest.SQLite(t))
	tn.Serve("bare", func(s *grpc.Server) { orderpb.RegisterOrderServiceServer(s, quiet{}) })
	ann := tn.As(within(t), "ann")
	created, err := tn.CreateOrder(ann, ask("tok_visa", 1))
	if err != nil {
		t.Fatal(err)
	}
	id := created.GetOrder().GetId()
	bare := perWatcher(ann, t, orderpb.NewOrderServiceClient(tn.Conn("bare")), id)
	ours := perWatcher(ann, t, tn.OrderServiceClient, id)
	t.Logf("figure: memory of a stream that waits, with its client: %d bytes of gRPC's own, ours takes %d more", bare, ours-bare)
	if ours-bare > watcherBytes {
		t.Errorf("a stream takes %d bytes more than one of a bare server, which may be %d", ours-bare, watcherBytes)
	}
}

// perWatcher is what a stream of the order takes, both its ends.
func perWatcher(ctx context.Context, t *testing.T, c orderpb.OrderServiceClient, id string) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := func(n int) {
		for range n {
			stream, err := c.WatchOrder(ctx, &orderpb.WatchOrderRequest{Id: id})
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const n = 1000
	watch(n / 4) // what the first ones take may be theirs only
	before := memory()
	watch(n)
	return (memory() - before) / n
}

// memory is what is in use, on the heap and by stacks.
func memory() int {
	for range 3 { // a stack shrinks by half at a time
		runtime.GC()
	}
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64() + s[1].Value.Uint64())
}
