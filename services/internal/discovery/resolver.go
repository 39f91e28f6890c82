//go:build etcd

package discovery

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc/resolver"
)

// builder makes resolvers of a service, each around etcd's own ones.
type builder struct {
	*Registry
	service string
}

// Scheme implements resolver.Builder.
func (builder) Scheme() string { return "etcd" }

// Build implements resolver.Builder. It waits for nothing, as the first call would
// wait for it, however short its deadline.
func (b builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	official, err := etcdresolver.NewBuilder(b.client)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(b.open)
	k := &kept{service: b.service, stop: stop, cc: cc}
	k.build = func() (resolver.Resolver, error) { return official.Build(target, &answers{cc, &k.known}, opts) }
	b.asking.Go(func() { k.run(ctx) })
	return k, nil
}

// kept is a resolver of etcd's that is put up anew from time to time.
type kept struct {
	service string
	cc      resolver.ClientConn
	known   atomic.Bool // some instance is
	build   func() (resolver.Resolver, error)
	stop    context.CancelFunc
}

func (k *kept) run(ctx context.Context) {
	var current resolver.Resolver
	defer func() {
		if current != nil {
			current.Close()
		}
	}()
	for {
		next, err := k.build()
		if err == nil {
			if current != nil { // not before: the next one knows as much by now
				current.Close()
			}
			current = next
		}
		wait := renewEvery
		if err != nil || !k.known.Load() {
			wait = retryEvery
		}
		if err != nil {
			// Not %w: calls would end with etcd's code, and are UNAVAILABLE.
			k.cc.ReportError(fmt.Errorf("etcd was asked for %s: %v", k.service, err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err == nil && !k.known.Load() {
			k.cc.ReportError(fmt.Errorf("etcd knows of no instance of %s", k.service))
		}
	}
}

// ResolveNow implements resolver.Resolver: etcd tells of changes by itself.
func (*kept) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. An answer of etcd's that is awaited is not
// waited for: nobody is told of it any more.
func (k *kept) Close() { k.stop() }

// answers are etcd's, without those that nobody is there: who was there last is asked
// himself, by his health and his connection.
type answers struct {
	resolver.ClientConn
	known *atomic.Bool
}

// UpdateState implements resolver.ClientConn.
func (a *answers) UpdateState(s resolver.State) error {
	if len(s.Endpoints) == 0 {
		return nil
	}
	a.known.Store(true)
	return a.ClientConn.UpdateState(s)
}
