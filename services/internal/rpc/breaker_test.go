package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// breaker is the breaker of the world's connection. Its time is the test's.
func (w *world) breaker(cfg breaker.Config) *breaker.Breaker {
	start := time.Now()
	cfg.Clock = func() time.Time { return start.Add(time.Duration(w.later.Load())) }
	return breaker.New(cfg)
}

func (w *world) point(name string) {
	if fn := w.before.Load(); fn != nil && strings.HasPrefix(name, "before call") {
		(*fn)()
	}
}

// ListGreetings says one thing and is silent then.
func (greeter) ListGreetings(_ *greeterpb.ListGreetingsRequest, s grpc.ServerStreamingServer[greeterpb.ListGreetingsResponse]) error {
	if err := s.Send(&greeterpb.ListGreetingsResponse{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// probing returns a world whose breaker has been open and lets probes through.
func probing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.greets(func(context.Context) error { return fault.Unavailable(time.Second, "away") })
	for range breaker.Row {
		w.call(t.Context())
	}
	reached := false
	w.greets(func(context.Context) error { reached = true; return nil })
	if err := w.call(t.Context()); status.Code(err) != codes.Unavailable || reached {
		t.Fatalf("the breaker is not open: %v", err)
	}
	w.later.Add(int64(time.Minute))
	return w
}

// greets sets how the target answers.
func (w *world) greets(fn func(context.Context) error) {
	w.greet = func(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
		return &greeterpb.GreetResponse{}, fn(ctx)
	}
}

func TestCodesOfAnOutage(t *testing.T) {
	outages := map[codes.Code]bool{
		codes.Unavailable: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.Unknown: true, codes.DataLoss: true,
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		err := status.Error(c, "")
		if outage(err) != outages[c] || abandoned(err) != (c == codes.Canceled) {
			t.Errorf("%v: outage %v, abandoned %v", c, outage(err), abandoned(err))
		}
	}
}

// However a probe ends, it leaves its place to another call, and the breaker
// closes once as many succeed as may be made at once.
func TestProbesReleaseTheirPlace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		probe func(context.Context, *world)
		opens bool
	}{
		{"success", func(ctx context.Context, w *world) { w.call(ctx) }, false},
		{"refusal", func(ctx context.Context, w *world) {
			w.greets(func(context.Context) error { return fault.NotFound("nothing here") })
			w.call(ctx)
		}, false},
		{"outage", func(ctx context.Context, w *world) {
			w.greets(func(context.Context) error { return fault.Unavailable(time.Second, "away") })
			w.call(ctx)
		}, true},
		{"cancelled", cancelled, false},
		{"panic", panicking(func(ctx context.Context, w *world) { w.call(ctx) }), true},
		{"stream that answers", streams(func(s listing) { s.Recv() }), false},
		{"stream that is given up", givenUp, false},
		{"stream that panics", panicking(func(ctx context.Context, w *world) {
			greeterpb.NewGreetingServiceClient(w.conn).ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada"})
		}), true},
		{"stream without time", func(ctx context.Context, w *world) {
			ctx, cancel := context.WithTimeout(ctx, 0)
			defer cancel()
			greeterpb.NewGreetingServiceClient(w.conn).RecordGreetings(ctx)
		}, false},
		{"stream that is silent", func(ctx context.Context, w *world) {
			greeterpb.NewGreetingServiceClient(w.conn).RecordGreetings(ctx)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := probing(t)
			for range breaker.Probes {
				tt.probe(t.Context(), w)
			}
			w.greets(func(context.Context) error { return nil })
			if err := w.call(t.Context()); tt.opens && err == nil {
				t.Error("the breaker does not open again")
			}
			w.later.Add(int64(time.Minute))
			w.closes(t)
		})
	}
}

// closes waits until the breaker is closed: the silent streams release their
// places after a while, the others before this is called.
func (w *world) closes(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		err := w.call(t.Context())
		if err == nil && strings.Contains(w.lastChange(), `"to":"closed"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the breaker does not close: %v\n%s", err, w.lastChange())
		}
	}
}

func (w *world) lastChange() (last string) {
	for _, line := range w.lines() {
		if strings.Contains(line, `"circuit breaker"`) {
			last = line
		}
	}
	return last
}

func cancelled(ctx context.Context, w *world) {
	ctx, cancel := context.WithCancel(ctx)
	w.greets(func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	w.call(ctx)
}

// panicking makes the probe panic between the breaker and the target.
func panicking(probe func(context.Context, *world)) func(context.Context, *world) {
	return func(ctx context.Context, w *world) {
		fn := func() { panic("boom") }
		w.before.Store(&fn)
		defer w.before.Store(nil)
		defer func() { recover() }()
		probe(ctx, w)
	}
}

type listing = grpc.ServerStreamingClient[greeterpb.ListGreetingsResponse]

func streams(use func(listing)) func(context.Context, *world) {
	return func(ctx context.Context, w *world) {
		s, err := greeterpb.NewGreetingServiceClient(w.conn).ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada"})
		if err == nil {
			use(s)
		}
	}
}

func givenUp(ctx context.Context, w *world) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := greeterpb.NewGreetingServiceClient(w.conn).RecordGreetings(ctx)
	cancel()
	if err == nil {
		s.CloseAndRecv()
	}
}

// An outage in the middle of a stream is no sign: the target may have been
// replaced, and the stream is opened again.
func TestStreamCountsByItsBeginning(t *testing.T) {
	w := newWorld(t)
	for range 2 * breaker.Row {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := greeterpb.NewGreetingServiceClient(w.conn).ListGreetings(ctx, &greeterpb.ListGreetingsRequest{Name: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		for err == nil {
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			t.Fatal("the stream ended well")
		}
	}
	if err := w.call(t.Context()); err != nil {
		t.Errorf("after streams that broke: %v", err)
	}
}

// Who asks for the health of a target gets the target's answer, and does not
// use up the places of probes.
func TestHealthIsAskedPastTheBreaker(t *testing.T) {
	w := newWorld(t)
	w.greets(func(context.Context) error { return fault.Unavailable(time.Second, "away") })
	health := healthpb.NewHealthClient(w.conn)
	for i := range 4 * breaker.Row {
		w.call(t.Context())
		if _, err := health.List(t.Context(), &healthpb.HealthListRequest{}); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if got := w.lastChange(); !strings.Contains(got, `"to":"open"`) {
		t.Errorf("answers about the target's health have kept the breaker closed: %q", got)
	}
}
