package app

import (
	"sync"
	"sync/atomic"
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
	k := &kept{closed: make(chan struct{})}
	k.build = func() (resolver.Resolver, error) { return f.Builder.Build(target, &listener{cc, &k.failed}, opts) }
	var err error
	if k.current, err = k.build(); err != nil {
		return nil, err
	}
	k.asking.Go(k.ask)
	return k, nil
}

// kept is a resolver that is asked again and again until it is closed.
type kept struct {
	build  func() (resolver.Resolver, error)
	failed atomic.Bool // nothing came of its last answer
	asking sync.WaitGroup
	closed chan struct{}

	mu      sync.Mutex
	current resolver.Resolver
}

func (k *kept) ask() {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.closed:
			return
		case <-tick.C:
			if k.failed.Swap(false) {
				k.renew()
			} else {
				k.ResolveNow(resolver.ResolveNowOptions{})
			}
		}
	}
}

// renew takes a new resolver in place of one that has failed. That would not be
// talked to: it waits for ever longer, up to 2 minutes, however long the name has
// been known again.
func (k *kept) renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	next, err := k.build()
	if err != nil {
		k.failed.Store(true)
		return
	}
	k.current.Close()
	k.current = next
}

// ResolveNow implements resolver.Resolver.
func (k *kept) ResolveNow(opts resolver.ResolveNowOptions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current.ResolveNow(opts)
}

// Close implements resolver.Resolver.
func (k *kept) Close() {
	close(k.closed)
	k.asking.Wait()
	k.current.Close()
}

// listener is told the answers of a resolver, and notes those of no use.
type listener struct {
	resolver.ClientConn
	failed *atomic.Bool
}

// UpdateState implements resolver.ClientConn.
func (l *listener) UpdateState(s resolver.State) error {
	err := l.ClientConn.UpdateState(s)
	if err != nil {
		l.failed.Store(true)
	}
	return err
}

// ReportError implements resolver.ClientConn.
func (l *listener) ReportError(err error) {
	l.failed.Store(true)
	l.ClientConn.ReportError(err)
}
