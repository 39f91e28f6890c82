package product

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

func TestWatchResumesAfterTheLastChangeSeen(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		a, b := r.create(t, mug("A")), r.create(t, mug("B"))
		token := checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, a)
		again := r.watch(t, token)
		checkChange(t, again, productpb.WatchProductsResponse_CHANGE_CREATED, b)
		c := r.create(t, mug("C"))
		checkChange(t, again, productpb.WatchProductsResponse_CHANGE_CREATED, c)
	})
}

func TestWatchRefusesATokenThatWasNotGivenOut(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		for _, text := range []string{"v2:1:0", "v2:1:-5", "v2:1:", "v2:7", "v2::7", "v3:1:7", "v2:1:18446744073709551615", "v2:1:7 ", "v1:0"} {
			ss, err := r.WatchProducts(r.anyone, &productpb.WatchProductsRequest{ResumeToken: base64.RawURLEncoding.EncodeToString([]byte(text))})
			if err == nil {
				_, err = ss.Recv()
			}
			checkRefused(t, err, codes.InvalidArgument, "resume_token")
		}
		ss, err := r.WatchProducts(r.anyone, &productpb.WatchProductsRequest{ResumeToken: "not base64!"})
		if err == nil {
			_, err = ss.Recv()
		}
		checkRefused(t, err, codes.InvalidArgument, "resume_token")
	})
}

func TestWatchFromTooLongAgoIsOutOfRange(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		a, b := r.create(t, mug("A")), r.create(t, mug("B"))
		token := checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, a)
		checkChange(t, ss, productpb.WatchProductsResponse_CHANGE_CREATED, b)
		early, err := r.WatchProducts(r.anyone, &productpb.WatchProductsRequest{ResumeToken: base64.RawURLEncoding.EncodeToString([]byte("v1:1"))})
		if err == nil {
			_, err = early.Recv()
		}
		checkRefused(t, err, codes.OutOfRange, "resume_token")
		r.forgetEvents(t)
		late, err := r.WatchProducts(r.anyone, &productpb.WatchProductsRequest{ResumeToken: token})
		if err == nil {
			_, err = late.Recv()
		}
		checkRefused(t, err, codes.OutOfRange, "resume_token")
	})
}

// forgetEvents drops what the broker has kept of the catalog's changes.
func (r *running) forgetEvents(t *testing.T) {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(r.Broker))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PRODUCT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWatchEndsWhenTheServiceStops(t *testing.T) {
	each(t, func(t *testing.T, r *running) {
		ss := r.watch(t, "")
		r.stop()
		_, err := ss.Recv()
		checkRefused(t, err, codes.Unavailable, "")
		if !strings.Contains(err.Error(), "resume_token") { // it was told so, not cut off
			t.Errorf("error %q does not say where to go on", err)
		}
	})
}
