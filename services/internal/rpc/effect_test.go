package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/effect"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// notes is a table for handlers to write to.
func notes(t *testing.T) *db.DB {
	t.Helper()
	return dbtest.Open(t, dbtest.SQLite(t), db.Schema{Name: "notes", FS: fstest.MapFS{
		"schema/001_notes.sql": {Data: []byte("-- +goose Up\nCREATE TABLE notes (text TEXT NOT NULL);\n")},
	}})
}

func write(ctx context.Context, d *db.DB) error {
	_, err := d.Exec(ctx, `INSERT INTO notes VALUES ('a')`)
	return err
}

func (w *world) setStock(t *testing.T) error {
	t.Helper()
	_, err := inventorypb.NewInventoryServiceClient(w.conn).SetStock(w.as(t, auth.RoleAdmin),
		&inventorypb.SetStockRequest{ProductId: productID, Available: proto.Int32(1)})
	return err
}

// answerOf returns what a caller is told, such as "Internal OUTCOME_UNKNOWN".
func answerOf(err error) string {
	s := status.Convert(err)
	if f := fault.As(err); f != nil {
		s = f.GRPCStatus()
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return s.Code().String() + " " + info.GetReason()
		}
	}
	return s.Code().String()
}

const defect = "handler says that nothing was done, and something was"

func TestUnavailableIsNotSaidAfterAnEffect(t *testing.T) {
	away := fault.Unavailable(time.Second, "come back later")
	tests := map[string]struct {
		handle func(ctx context.Context, d *db.DB) error
		want   string
	}{
		"nothing written": {func(context.Context, *db.DB) error { return away }, "Unavailable UNAVAILABLE"},
		"only read": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(d.Row(ctx, `SELECT COUNT(*) FROM notes`).Scan(new(int)), away)
		}, "Unavailable UNAVAILABLE"},
		"written and undone": {func(ctx context.Context, d *db.DB) error {
			return d.InTx(ctx, func(tx *db.DB) error { return errors.Join(write(ctx, tx), away) })
		}, "Unavailable UNAVAILABLE"},
		"written": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(write(ctx, d), away)
		}, "Internal OUTCOME_UNKNOWN"},
		"committed": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(d.InTx(ctx, func(tx *db.DB) error { return write(ctx, tx) }), away)
		}, "Internal OUTCOME_UNKNOWN"},
		"written, and then the database was away": {func(ctx context.Context, d *db.DB) error {
			if err := write(ctx, d); err != nil {
				return err
			}
			return errors.Join(d.Close(), write(ctx, d))
		}, "Internal OUTCOME_UNKNOWN"},
		"the database is away": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(d.Close(), write(ctx, d))
		}, "Unavailable UNAVAILABLE"},
		"written by what goes on when the caller has left": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(write(context.WithoutCancel(ctx), d), away)
		}, "Internal OUTCOME_UNKNOWN"},
		"written, and refused": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(write(ctx, d), fault.Refused("SOLD_OUT", "no more"))
		}, "FailedPrecondition SOLD_OUT"},
		"written, and too much": {func(ctx context.Context, d *db.DB) error {
			return errors.Join(write(ctx, d), fault.Exhausted(time.Second, "slow down"))
		}, "ResourceExhausted RATE_LIMITED"},
		"written, and fine": {write, "OK"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, d := newWorld(t), notes(t)
			w.set = func(ctx context.Context, _ *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
				return &inventorypb.SetStockResponse{}, tt.handle(ctx, d)
			}
			if got := answerOf(w.setStock(t)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			told := strings.Count(strings.Join(w.lines(), "\n"), defect)
			if want := strings.Count(tt.want, "OUTCOME_UNKNOWN"); told != want {
				t.Errorf("the log tells of %d defects, want %d", told, want)
			}
		})
	}
}

// far is a server beyond the one that a test calls, as its handlers see it.
type far struct {
	server *Server
	conn   *grpc.ClientConn
	stock
}

func newFar(t *testing.T) *far {
	t.Helper()
	f := &far{stock: stock{w: &world{}}}
	var err error
	f.server, err = NewServer(ServerConfig{Log: slog.New(slog.DiscardHandler), Traces: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider(),
		Clock: time.Now, Insider: func(net.Addr) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	f.server.Verify(auth.NewVerifier(auth.KeySet{}, nil, time.Now))
	inventorypb.RegisterInventoryServiceServer(f.server, f)
	lis := bufconn.Listen(1 << 16)
	go f.server.Serve(lis)
	t.Cleanup(f.server.Stop)
	f.conn, err = Dial(ClientConfig{Name: "far", Target: "passthrough:///far", Log: slog.New(slog.DiscardHandler),
		Traces: tracenoop.NewTracerProvider(), Meters: noop.NewMeterProvider()},
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.conn.Close() })
	return f
}

func (f *far) release(ctx context.Context) error {
	_, err := inventorypb.NewInventoryServiceClient(f.conn).Release(ctx, &inventorypb.ReleaseRequest{OrderId: productID})
	return err
}

// Release and GetStock are one RPC that changes something and one that does not.
func (f *far) Release(context.Context, *inventorypb.ReleaseRequest) (*inventorypb.ReleaseResponse, error) {
	_, err := f.w.set(context.Background(), nil)
	return &inventorypb.ReleaseResponse{}, err
}

func (f *far) GetStock(context.Context, *inventorypb.GetStockRequest) (*inventorypb.GetStockResponse, error) {
	return &inventorypb.GetStockResponse{}, nil
}

func TestACallOfAnotherServiceIsAnEffect(t *testing.T) {
	tests := map[string]struct {
		answer func(f *far) error // of the other service
		call   func(ctx context.Context, f *far) error
		noted  bool
	}{
		"done": {call: func(ctx context.Context, f *far) error { return f.release(ctx) }, noted: true},
		"a read": {call: func(ctx context.Context, f *far) error {
			_, err := inventorypb.NewInventoryServiceClient(f.conn).GetStock(ctx, &inventorypb.GetStockRequest{ProductId: productID})
			return err
		}},
		"refused":                       {answer: func(*far) error { return fault.Refused("ORDER_RELEASED", "no") }},
		"it says that nothing was done": {answer: func(*far) error { return fault.Unavailable(time.Second, "away") }},
		"it does not know":              {answer: func(*far) error { return fault.Aborted("PROCESSOR_UNAVAILABLE", "ask again") }, noted: true},
		"a defect":                      {answer: func(*far) error { return errors.New("boom") }, noted: true},
		"the connection breaks":         {answer: func(f *far) error { f.server.Stop(); return nil }, noted: true},
		"nobody is there": {call: func(ctx context.Context, f *far) error {
			f.server.Stop()
			for f.release(effect.Track(ctx)); status.Code(f.release(effect.Track(ctx))) != codes.Unavailable; {
			}
			return f.release(ctx)
		}},
		"no time is left": {call: func(ctx context.Context, f *far) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return f.release(ctx)
		}},
		"the time is up before it answers": {answer: func(*far) error { time.Sleep(100 * time.Millisecond); return nil },
			call: func(ctx context.Context, f *far) error {
				ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				return f.release(ctx)
			}, noted: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, f := newWorld(t), newFar(t)
			f.w.set = func(context.Context, *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
				if tt.answer != nil {
					return nil, tt.answer(f)
				}
				return nil, nil
			}
			if tt.call == nil {
				tt.call = func(ctx context.Context, f *far) error { return f.release(ctx) }
			}
			var called error
			w.greet = func(ctx context.Context, _ *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
				called = tt.call(ctx, f)
				return nil, fault.Unavailable(time.Second, "come back later")
			}
			want := "Unavailable UNAVAILABLE"
			if tt.noted {
				want = "Internal OUTCOME_UNKNOWN"
			}
			if got := answerOf(w.call(t.Context())); got != want {
				t.Errorf("got %s, want %s; the call of the other service ended with %v", got, want, called)
			}
		})
	}
}

func TestAStreamMayEndUnavailableAfterItsEffects(t *testing.T) {
	w, d := newWorld(t), notes(t)
	w.record = func(ctx context.Context) error {
		return errors.Join(write(ctx, d), fault.Unavailable(time.Second, "open the stream again"))
	}
	s, err := greeterpb.NewGreetingServiceClient(w.conn).RecordGreetings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.CloseAndRecv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
}

// What gRPC or a proxy says on the way is no word of the service's.
func TestOnlyTheServiceItselfCanSayThatNothingWasDone(t *testing.T) {
	fromService := fault.Unavailable(0, "away").GRPCStatus().Err()
	for _, tt := range []struct {
		err  error
		sent bool
		want bool
	}{
		{nil, true, true},
		{fromService, true, false},
		{status.Error(codes.Unavailable, "no healthy upstream"), true, true},
		{status.Error(codes.Unavailable, "connection refused"), false, false},
		{fault.Exhausted(time.Second, "slow down").GRPCStatus().Err(), true, false},
		{status.Error(codes.ResourceExhausted, "received message larger than max"), true, true},
		{status.Error(codes.Canceled, "context canceled"), true, true},
		{status.Error(codes.Canceled, "context canceled"), false, false},
		{status.Error(codes.PermissionDenied, "RBAC: access denied"), true, false},
	} {
		if got := affected(tt.err, tt.sent); got != tt.want {
			t.Errorf("%v, sent %v: got %v, want %v", tt.err, tt.sent, got, tt.want)
		}
	}
}
