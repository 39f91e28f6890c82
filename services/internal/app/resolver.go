package app

import (
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

// resolveEvery is how often the addresses behind a service's name are asked for.
const resolveEvery = time.Second

// fresh keeps the addresses of a service's replicas up to date. By itself gRPC
// asks for them when a connection is lost, and no sooner than 30 s after the last
// time (see MainFunc): by then the replicas that it knows of may all have been
// replaced, and their addresses be another service's. Asked for all the time, a
// replica that leaves is left in its DRAIN_DELAY, before it closes anything.
type fresh struct{ resolver.Builder }

// Build implements resolver.Builder.
func (f fresh) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	r, err := f.Builder.Build(target, cc, opts)
	if err != nil {
		return nil, err
	}
	k := &kept{Resolver: r, closed: make(chan struct{})}
	k.asking.Go(k.ask)
	return k, nil
}

// kept is a resolver that is asked again and again until it is closed.
type kept struct {
	resolver.Resolver
	asking sync.WaitGroup
	closed chan struct{}
}

func (k *kept) ask() {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.closed:
			return
		case <-tick.C:
			k.ResolveNow(resolver.ResolveNowOptions{})
		}
	}
}

// Close implements resolver.Resolver.
func (k *kept) Close() {
	close(k.closed)
	k.asking.Wait()
	k.Resolver.Close()
}
