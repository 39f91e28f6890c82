//go:build !race

package product

import (
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
)

// bare answers with one product and has nothing around it.
type bare struct {
	productpb.UnimplementedProductServiceServer
	p *productpb.Product
}

func (b bare) GetProduct(context.Context, *productpb.GetProductRequest) (*productpb.GetProductResponse, error) {
	return &productpb.GetProductResponse{Product: b.p}, nil
}

// getter gets one product again and again, as the caller of a trace that is not
// kept.
type getter struct {
	productpb.ProductServiceClient
	ctx context.Context
	id  string
}

func (g getter) calls(t testing.TB, callers, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := i; j < n; j += callers {
				if _, err := g.GetProduct(g.ctx, &productpb.GetProductRequest{Id: g.id}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// allocations is how many a call costs on both sides.
func (g getter) allocations(t testing.TB, callers, n int) float64 {
	g.calls(t, callers, n/10) // what is made once is made
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	g.calls(t, callers, n)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

func (g getter) cpu(t testing.TB, callers, n int) time.Duration {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	g.calls(t, callers, n)
	return used() - before
}

// dialed returns a client of its own connection over TCP.
func dialed(t *testing.T, addr string) productpb.ProductServiceClient {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return productpb.NewProductServiceClient(cc)
}

// getters are of a bare server and of the service, on SQLite.
func getters(t *testing.T) (plain, ours getter) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	w := apptest.New(t)
	w.Log = io.Discard
	w.ServeKeys()
	w.Start(New(), map[string]string{"GRPC_ADDR": addr, "DATABASE_URL": t.TempDir() + "/product.db", "TRACE_RATIO": "0.01"})
	admin := w.As(t.Context(), "boss", "admin")
	c := dialed(t, addr)
	made, err := c.CreateProduct(admin, &productpb.CreateProductRequest{Product: mug("MUG")})
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(admin, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	ours = getter{c, ctx, made.GetProduct().GetId()}

	s := grpc.NewServer()
	productpb.RegisterProductServiceServer(s, bare{p: made.GetProduct()})
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return getter{dialed(t, l.Addr().String()), t.Context(), ours.id}, ours
}

// getAllocations is what GetProduct may allocate more than a call of a bare server
// that has no token to look at, no trace to follow and no database: as many as were
// measured for a call that comes alone, half of them the database's, and some for
// chance.
const getAllocations = 111 + 4

func TestAllocationsOfGetProduct(t *testing.T) {
	plain, ours := getters(t)
	for _, callers := range []int{1, 64} {
		more := ours.allocations(t, callers, 3000) - plain.allocations(t, callers, 3000)
		t.Logf("figure: allocations of GetProduct on SQLite, %d at once: %.0f more than on a bare server", callers, more)
		if more > getAllocations {
			t.Errorf("%d at once: a call allocates %.0f times more than on a bare server, which may be %d", callers, more, getAllocations)
		}
	}
}

// TestCostOfGetProduct compares calls of one product with those on a bare gRPC
// server that has it at hand, in turn: all that the runtime does, and the store.
func TestCostOfGetProduct(t *testing.T) {
	plain, ours := getters(t)
	for _, callers := range []int{1, 64} {
		var ratios []float64
		for i := range 8 {
			a, b := plain.cpu(t, callers, 1000), ours.cpu(t, callers, 1000)
			if i > 0 { // the first warms up
				ratios = append(ratios, b.Seconds()/a.Seconds())
			}
		}
		slices.Sort(ratios)
		t.Logf("figure: CPU time of GetProduct on SQLite, client and server, %d at once: %.2f times bare gRPC's", callers, ratios[len(ratios)/2])
	}
}
