//go:build !race

package rpc

import (
	"slices"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/tests/certs"
)

// A call on a connection of mutual TLS may cost this many times as much if it is
// looked at who calls. It is far from what is measured: a machine of tests is busy.
const maxCallersCheck = 1.25

func TestCostOfTheCallersCheck(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	own := is(t, ca, "payment")
	conn := func(checked bool) *grpc.ClientConn {
		return as(t, servingUnchecked(t, "payment", own, checked), shows(t, ca, shopID+"order"))
	}
	conns := []*grpc.ClientConn{conn(false), conn(true)}
	const rounds, calls = 15, 300
	var times [2][]float64
	for round := range rounds + 1 {
		for i, cc := range conns {
			before := cpuTime(t)
			for range calls {
				if err := ask(t, cc, "/payment.v1.PaymentService/Capture"); err != nil {
					t.Fatal(err)
				}
			}
			if round > 0 { // the first warms up
				times[i] = append(times[i], cpuTime(t)-before)
			}
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	ratio := times[1][rounds/2] / times[0][rounds/2]

	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: &identity.Peer{TLSInfo: credentials.TLSInfo{}, ID: shopID + "order", Account: "order"}})
	callers := []string{"gateway", "order"}
	check := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := callerIn(ctx, callers, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	t.Logf("figure: the caller's check: a call over mutual TLS costs %.3f of the CPU time of one without; by itself %d ns and %d allocations",
		ratio, check.NsPerOp(), check.AllocsPerOp())
	if ratio > maxCallersCheck || check.AllocsPerOp() > 0 {
		t.Errorf("that is too much")
	}
}

// cpuTime is what the process has used, in seconds.
func cpuTime(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
