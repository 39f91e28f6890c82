//go:build etcd

package discovery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// Registration is an instance that is registered until it leaves.
type Registration struct {
	*Registry
	service, addr string

	lease atomic.Int64 // 0: none
	stop  context.CancelFunc
	held  sync.WaitGroup
}

// Register has a service's instance be found at an address until it leaves. It waits
// for nothing: an etcd that is away is asked until it is there.
func (r *Registry) Register(service, addr string) *Registration {
	ctx, stop := context.WithCancel(r.open)
	g := &Registration{Registry: r, service: service, addr: addr, stop: stop}
	g.held.Go(func() { g.run(ctx) })
	return g
}

// Leave takes the instance away: from now on callers are told that it is gone. If
// etcd can't be told within ctx, it forgets the instance when its lease ends.
func (g *Registration) Leave(ctx context.Context) error {
	g.stop()
	g.held.Wait()
	id := g.lease.Swap(0)
	if id == 0 {
		return nil
	}
	if _, err := g.client.Revoke(ctx, clientv3.LeaseID(id)); err != nil {
		return fmt.Errorf("take %s at %s out of etcd: %w", g.service, g.addr, err)
	}
	return nil
}

// run keeps the instance registered. Its lease ends when etcd was away for longer
// than that takes, or has lost its data; then there is another one.
func (g *Registration) run(ctx context.Context) {
	for told := false; ; {
		registered, err := g.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		if registered || !told {
			told = true
			g.cfg.Log.Warn("not registered in etcd; it is tried again until it is", "addr", g.addr, "err", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryEvery):
		}
	}
}

var errEnded = errors.New("the lease has ended")

// hold registers the instance, and returns when it is not registered any more.
func (g *Registration) hold(ctx context.Context) (registered bool, err error) {
	manager, err := endpoints.NewManager(g.client, g.cfg.key(g.service))
	if err != nil {
		return false, err
	}
	lease, err := g.client.Grant(ctx, int64(math.Ceil(g.cfg.TTL.Seconds())))
	if err != nil {
		return false, fmt.Errorf("lease: %w", err)
	}
	g.lease.Store(int64(lease.ID))
	key := g.cfg.key(g.service) + "/" + g.addr
	if err := manager.AddEndpoint(ctx, key, endpoints.Endpoint{Addr: g.addr}, clientv3.WithLease(lease.ID)); err != nil {
		return false, fmt.Errorf("register: %w", err)
	}
	alive, err := g.client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return false, fmt.Errorf("renew the lease: %w", err)
	}
	g.cfg.Log.Info("registered in etcd", "addr", g.addr)
	for range alive { // closed when the lease is not renewed any more
	}
	return true, errEnded
}
