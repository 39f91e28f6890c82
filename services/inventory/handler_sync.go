package inventory

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// syncBatch is how many counts one transaction stores at most, if so many have
// come; as many again wait to be stored. A warehouse that sends more waits.
const syncBatch = 64

type syncStream = grpc.BidiStreamingServer[inventorypb.SyncStockRequest, inventorypb.SyncStockResponse]

// SyncStock confirms each count once it is stored. It takes as many as there
// are into one transaction, so that a warehouse which does not wait for the
// confirmations is not slowed down by the disk.
func (h *handler) SyncStock(stream syncStream) error {
	in := &incoming{counts: make(chan Count, syncBatch)}
	go in.receive(stream)
	known, fresh := 0, 0
	for {
		batch, err := in.next(stream.Context(), h.draining)
		if err != nil || len(batch) == 0 {
			if err == nil && fresh == 0 && known > 0 {
				idem.Replayed(stream.Context())
			}
			return err
		}
		done, refusal := h.inv.Sync(stream.Context(), batch)
		for _, d := range done {
			if d.Applied {
				fresh++
			} else {
				known++
			}
			if err := stream.Send(d.proto()); err != nil {
				return err
			}
		}
		if refusal != nil {
			return refusal
		}
	}
}

// incoming is what a client has sent and is not stored yet.
type incoming struct {
	counts chan Count // closed after the last one
	err    error      // why it was the last; nil: the client said so
}

// receive reads the stream until it ends; the server ends it when the handler
// has returned.
func (in *incoming) receive(stream syncStream) {
	defer close(in.counts)
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			in.err = err
			return
		}
		select {
		case in.counts <- Count{
			Source: req.GetSource(), Sequence: req.GetSequence(),
			ProductID: id(req.GetProductId()), Available: int64(req.GetAvailable()),
		}:
		case <-stream.Context().Done():
			in.err = stream.Context().Err()
			return
		}
	}
}

// next waits for a count and returns it with those that have come after it. It
// returns none after the last one, and an error if the stream broke.
func (in *incoming) next(ctx context.Context, draining <-chan struct{}) ([]Count, error) {
	var batch []Count
	select {
	case <-draining:
		return nil, fault.Unavailable(time.Second, "the service is shutting down; send again what is not confirmed")
	case <-ctx.Done():
		return nil, ctx.Err()
	case c, ok := <-in.counts:
		if !ok {
			return nil, in.err
		}
		batch = append(batch, c)
	}
	for len(batch) < syncBatch {
		select {
		case c, ok := <-in.counts:
			if !ok {
				return batch, nil // the next call tells the end
			}
			batch = append(batch, c)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func (c Counted) proto() *inventorypb.SyncStockResponse {
	r := &inventorypb.SyncStockResponse{Source: c.Source, Sequence: c.Sequence, Applied: c.Applied}
	if c.Stock.ProductID != "" {
		r.Stock = c.Stock.proto()
	}
	return r
}
