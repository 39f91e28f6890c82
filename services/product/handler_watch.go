package product

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/events"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// maxWatchers bounds those who watch one replica: each has a consumer at the
// broker, and costs this process some 160 KB.
const maxWatchers = 500

// watchStream is the server's side of WatchProducts.
type watchStream = grpc.ServerStreamingServer[productpb.WatchProductsResponse]

// WatchProducts sends the headers once no change can be missed, so that the
// client can tell when to read what was before.
func (h *handler) WatchProducts(req *productpb.WatchProductsRequest, ss watchStream) error {
	after, err := resumeAfter(req.GetResumeToken())
	if err != nil {
		return err
	}
	select {
	case h.watchers <- struct{}{}:
		defer func() { <-h.watchers }()
	default:
		return fault.Exhausted(5*time.Second, "%d already watch this server", maxWatchers)
	}
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	go func() {
		select {
		case <-h.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	// If the headers can't be sent the client is gone, and the next send fails.
	ready := func() { _ = ss.SendHeader(metadata.MD{}) }
	err = h.watcher.watch(ctx, after, ready, ss.Send)
	select {
	case <-h.draining:
		return fault.Unavailable(time.Second, "this server stops: watch again with the last resume_token")
	default:
		return err
	}
}

// tokenPrefix is the version of resume tokens. Those of v1 did not tell of which
// stream they were, and are out of range.
const tokenPrefix = "v2:"

// resumeToken names a place in the stream of changes.
func resumeToken(p events.Place) string {
	return base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf("%s%d:%d", tokenPrefix, p.Born, p.Sequence)))
}

// resumeAfter returns the place that a token names, or the zero value for none.
func resumeAfter(token string) (events.Place, error) {
	if token == "" {
		return events.Place{}, nil
	}
	text, _ := base64.RawURLEncoding.DecodeString(token)
	place, ok := strings.CutPrefix(string(text), tokenPrefix)
	if !ok {
		place, ok = strings.CutPrefix(string(text), "v1:")
		place = "0:" + place
	}
	born, sequence, _ := strings.Cut(place, ":")
	b, errBorn := strconv.ParseInt(born, 10, 64)
	n, errNumber := strconv.ParseUint(sequence, 10, 63)
	if !ok || errBorn != nil || errNumber != nil || n == 0 {
		return events.Place{}, fault.Invalid("resume_token", "is not one that was given out")
	}
	return events.Place{Born: b, Sequence: n}, nil
}
