//go:build proxyless

package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/xds"
)

// proxylessClient has the control plane say how calls are balanced, bounded,
// repeated and encrypted. Where it says nothing of encryption they are plaintext:
// a server that is told to be strict refuses them.
func proxylessClient() ([]grpc.DialOption, error) {
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, fmt.Errorf("MESH=proxyless: %w", err)
	}
	return append(repeating(), grpc.WithTransportCredentials(creds)), nil
}

// proxyless is a server that takes calls once the control plane has told it from
// whom, and has its certificates from there or from the files in its bootstrap.
type proxyless struct {
	*xds.GRPCServer
	why atomic.Pointer[error] // why it takes no calls; nil: it does
}

var errNotConfigured = errors.New("the mesh has not said yet who may call")

func proxylessServer(log *slog.Logger, opts ...grpc.ServerOption) (transport, error) {
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, fmt.Errorf("MESH=proxyless: %w", err)
	}
	p := &proxyless{}
	p.why.Store(&errNotConfigured)
	p.GRPCServer, err = xds.NewGRPCServer(append(opts, grpc.Creds(creds), xds.ServingModeCallback(func(at net.Addr, m xds.ServingModeChangeArgs) {
		p.changed(log, at, m)
	}))...)
	if err != nil {
		return nil, fmt.Errorf("MESH=proxyless, configured by the file in GRPC_XDS_BOOTSTRAP: %w", err)
	}
	return p, nil
}

func (p *proxyless) changed(log *slog.Logger, at net.Addr, m xds.ServingModeChangeArgs) {
	if m.Mode == connectivity.ServingModeServing {
		p.why.Store(nil)
		log.Info("the mesh has configured the server", "addr", at.String())
		return
	}
	err := errNotConfigured
	if m.Err != nil {
		err = m.Err
	}
	p.why.Store(&err)
	log.Warn("the mesh lets nobody call", "addr", at.String(), "err", err.Error())
}

// Configured returns why the mesh lets nobody call, or nil.
func (s *Server) Configured(context.Context) error {
	if p, ok := s.transport.(*proxyless); ok {
		if why := p.why.Load(); why != nil {
			return *why
		}
	}
	return nil
}
