//go:build etcd

package discovery

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// told is a connection that keeps what a resolver says.
type told struct {
	resolver.ClientConn
	states []resolver.State
}

func (c *told) UpdateState(s resolver.State) error {
	c.states = append(c.states, s)
	return nil
}

func TestThatNobodyIsThereIsNotTaken(t *testing.T) {
	c, known := &told{}, &atomic.Bool{}
	a := &answers{c, known}
	if err := a.UpdateState(resolver.State{}); err != nil || known.Load() || len(c.states) > 0 {
		t.Errorf("got %v, known %v, %d states", err, known.Load(), len(c.states))
	}
	one := resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "a:1"}}}}}
	for _, s := range []resolver.State{one, {}} {
		if err := a.UpdateState(s); err != nil {
			t.Error(err)
		}
	}
	if len(c.states) != 1 || !known.Load() {
		t.Errorf("known %v, told %v", known.Load(), c.states)
	}
}

// A call does not wait for an etcd that is away longer than for one that knows
// nobody, and is told what is wrong.
func TestWithoutEtcdACallIsToldSo(t *testing.T) {
	r, err := Open(Config{Endpoints: []string{"http://127.0.0.1:1"}, Namespace: "default", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	target, instances := r.Target("order")
	cc, err := grpc.NewClient(target, grpc.WithResolvers(instances), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = cc.Invoke(ctx, "/order.v1.OrderService/GetOrder", nil, nil)
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "etcd was asked for order") {
		t.Errorf("got %v", err)
	}
}

// An instance can end while etcd is away, and says so.
func TestWhoeverLeavesDoesNotWaitForEtcd(t *testing.T) {
	r, err := Open(Config{Endpoints: []string{"http://127.0.0.1:1"}, Namespace: "default", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g := r.Register("order", "127.0.0.1:9090")
	if err := g.Leave(t.Context()); err != nil {
		t.Errorf("it was never registered, and yet: %v", err)
	}
	g = r.Register("order", "127.0.0.1:9090")
	g.lease.Store(1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Leave(ctx); err == nil {
		t.Error("etcd is away, and was told nevertheless")
	}
}
