package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/reflection"

	"github.com/meshmart/meshmart/services/internal/rpc"
	"github.com/meshmart/meshmart/services/internal/version"
)

// serve opens the listeners, serves until ctx is done or one of them fails, and
// shuts down in order: NOT_SERVING and out of the registry, time for the balancers
// to notice, no new connections, the calls under way finish within a limit, the workers stop.
func (e *Env) serve(ctx context.Context) error {
	grpcs, https, err := e.listen()
	if err != nil {
		return err
	}
	reflection.Register(e.rpc)
	failed := make(chan error, len(grpcs)+len(https))
	var wg sync.WaitGroup
	for _, l := range grpcs {
		wg.Go(func() { failed <- e.rpc.Serve(l) })
	}
	leaving := &atomic.Bool{}
	for i, l := range https {
		e.https[i].Handler = &farewell{leaving, e.https[i].Handler}
		wg.Go(func() { failed <- ignoreClosed(e.https[i].Serve(l)) })
	}
	e.workers.start()
	checks, stopChecks := context.WithCancel(context.WithoutCancel(ctx))
	var checking sync.WaitGroup
	checking.Go(func() { e.health.watch(checks) })

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopChecks()
	checking.Wait() // the last look must not say that the service is ready
	leaving.Store(true)
	e.drain()
	wg.Wait()
	e.workers.stop()
	e.Log.Info("stopped")
	return err
}

// listen opens all listeners or none.
func (e *Env) listen() (grpcs, https []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range append(grpcs, https...) {
				l.Close()
			}
		}
	}()
	if inner, err := e.opt.Network.Listen(e.Name); err != nil {
		return nil, nil, err
	} else if inner != nil {
		grpcs = append(grpcs, inner)
	}
	var at net.Addr
	if len(e.rpc.GetServiceInfo()) > 1 { // more than health: it has RPCs
		l, err := net.Listen("tcp", e.cfg.GRPCAddr)
		if err != nil {
			return grpcs, nil, fmt.Errorf("GRPC_ADDR: %w", err)
		}
		grpcs = append(grpcs, l)
		if e.cfg.Mesh == rpc.Proxyless {
			e.Check("mesh", e.rpc.Configured)
		}
		e.Log.Info("serving gRPC", "addr", l.Addr().String(), "version", version.Get())
		e.warnOfPlaintext(l.Addr())
		at = l.Addr()
	}
	for _, s := range e.https {
		l, err := net.Listen("tcp", s.Addr)
		if err != nil {
			return grpcs, https, fmt.Errorf("listen for HTTP: %w", err)
		}
		https = append(https, l)
		e.Log.Info("serving HTTP", "addr", l.Addr().String(), "version", version.Get())
		if e.opt.HTTP != nil {
			e.opt.HTTP(l.Addr())
		}
	}
	if at == nil {
		return grpcs, https, nil
	}
	return grpcs, https, e.register(at) // nobody is to find what does not come up
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain takes the service out of the balancers' sight and lets the calls under
// way finish; what is not finished within the limit is cut off.
func (e *Env) drain() {
	e.health.set(errors.New("shutting down"))
	e.leave()
	if e.cfg.DrainDelay > 0 {
		e.Log.Info("draining", "delay", e.cfg.DrainDelay.String())
		time.Sleep(e.cfg.DrainDelay)
	}
	close(e.draining)
	limit, cancel := context.WithTimeout(context.Background(), e.cfg.ShutdownTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range e.https {
		wg.Go(func() {
			if err := s.Shutdown(limit); err != nil {
				s.Close()
			}
		})
	}
	wg.Go(func() {
		force := context.AfterFunc(limit, e.rpc.Stop)
		defer force()
		e.rpc.GracefulStop()
	})
	wg.Wait()
}
