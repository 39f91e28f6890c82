package app

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
)

// TestClientsAreSentAwayWhileTheServiceDrains: until then they keep their
// connections, and then each reply ends one, before it would be cut off; also
// the reply to a request that came before.
func TestClientsAreSentAwayWhileTheServiceDrains(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr, unready := make(chan string, 1), make(chan struct{})
	var stopping atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	svc := Service{Name: "test", Start: func(_ context.Context, env *Env) error {
		mux := http.NewServeMux()
		mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
		env.ServeHTTP("127.0.0.1:0", mux)
		return nil
	}}
	go func() {
		done <- Run(ctx, svc, Options{
			Environ: map[string]string{"DRAIN_DELAY": "2s"}, Network: &Memory{}, Log: &syncBuffer{},
			HTTP: func(a net.Addr) { addr <- a.String() },
			Status: func(reason error) {
				if reason != nil && stopping.Load() {
					close(unready)
				}
			},
		})
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	url := "http://" + <-addr
	leaves := func(path string) bool {
		resp, err := client.Get(url + path)
		if err != nil {
			t.Error(err)
			return false
		}
		defer resp.Body.Close()
		return resp.Close
	}
	if leaves("/") {
		t.Error("the first reply ends the connection")
	}
	slow := make(chan bool)
	go func() { slow <- leaves("/slow") }()
	<-entered
	stopping.Store(true)
	stop()
	<-unready
	if !leaves("/") {
		t.Error("the connection stays while the service drains")
	}
	close(leave)
	if !<-slow {
		t.Error("the connection of a request that came before stays")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// asked counts how often it is asked for addresses.
type asked struct {
	resolver.Builder
	n      atomic.Int64
	closed bool
}

func (a *asked) Build(resolver.Target, resolver.ClientConn, resolver.BuildOptions) (resolver.Resolver, error) {
	return a, nil
}
func (a *asked) ResolveNow(resolver.ResolveNowOptions) { a.n.Add(1) }
func (a *asked) Close()                                { a.closed = true }

func TestAddressesAreAskedForUntilTheConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{}
		r, err := fresh{a}.Build(resolver.Target{}, nil, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*resolveEvery + resolveEvery/2)
		if got := a.n.Load(); got != 10 {
			t.Errorf("asked %d times, want 10", got)
		}
		r.Close()
		time.Sleep(10 * resolveEvery)
		if got := a.n.Load(); got != 10 || !a.closed {
			t.Errorf("asked %d times in all, closed is %v; want 10, true", got, a.closed)
		}
	})
}
