package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/meshmart/meshmart/services/internal/discovery"
	"github.com/meshmart/meshmart/services/internal/identity"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// newIdentity returns who a service is by the files that it is configured with, or
// nil. Services that share a process have none: they call each other inside of it.
func newIdentity(name string, cfg *config, log *slog.Logger) (*identity.Identity, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	if cfg.Mesh != rpc.NoMesh {
		return nil, errors.New("TLS_CERT_FILE: it is for services that have a process each")
	}
	return identity.Load(identity.Config{
		CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, CAFile: cfg.CAFile,
		TrustDomain: cfg.TrustDomain, Namespace: cfg.PodNamespace, Service: name, Log: log,
	})
}

// warnOfPlaintext says once what nobody should find out from somebody else: calls
// come over a network, and nothing encrypts them.
func (e *Env) warnOfPlaintext(at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if e.cfg.Mesh != rpc.NoMesh || e.identity != nil || ok && tcp.IP.IsLoopback() {
		return
	}
	e.Log.Warn("MESH=none without TLS: whoever is on the network can read calls, change them and make them; "+
		"set TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE, or listen on loopback only", "addr", at.String())
}

// newRegistry returns the etcd that services are found by, or nil.
func newRegistry(cfg *config, own *identity.Identity, log *slog.Logger) (*discovery.Registry, error) {
	if len(cfg.ETCDEndpoints) == 0 {
		return nil, nil
	}
	if cfg.Mesh != rpc.NoMesh {
		return nil, errors.New("ETCD_ENDPOINTS: it is for services that have a process each")
	}
	found := discovery.Config{Endpoints: cfg.ETCDEndpoints, Namespace: cfg.PodNamespace, Log: log}
	if strings.HasPrefix(cfg.ETCDEndpoints[0], "https:") {
		found.Credentials = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
		if own != nil {
			var err error
			if found.Credentials, err = own.Outside(); err != nil {
				return nil, fmt.Errorf("ETCD_ENDPOINTS: %w", err)
			}
		}
	}
	return discovery.Open(found)
}

// etcd finds a service by those of its instances that are registered, or at the
// address in $NAME_ADDR.
type etcd struct {
	*discovery.Registry
	dns
}

// Target implements Network.
func (n etcd) Target(name string) (string, []grpc.DialOption) {
	if n.environ[peerVariable(name)] != "" {
		return n.dns.Target(name)
	}
	target, instances := n.Registry.Target(name)
	return target, []grpc.DialOption{grpc.WithResolvers(instances), grpc.WithAuthority(name)}
}

// leaveLimit is how long a service that ends waits for etcd to know of it.
const leaveLimit = 2 * time.Second

// register has the service be found, if it is by etcd that services are.
func (e *Env) register(at net.Addr) error {
	if e.registry == nil {
		return nil
	}
	addr, err := advertised(e.cfg.AdvertiseAddr, at)
	if err != nil {
		return err
	}
	r := e.registry.Register(e.Name, addr)
	e.leave = func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
		defer cancel()
		if err := r.Leave(ctx); err != nil {
			e.Log.Warn("callers learn of the end when the lease ends", "err", err.Error())
		}
	}
	return nil
}

// advertised is where a server is reached that listens at an address.
func advertised(configured string, at net.Addr) (string, error) {
	tcp, ok := at.(*net.TCPAddr)
	if configured != "" || !ok {
		return configured, nil
	}
	if !tcp.IP.IsUnspecified() {
		return tcp.String(), nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("ADVERTISE_ADDR: %w", err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), strconv.Itoa(tcp.Port)), nil
		}
	}
	return "", errors.New("ADVERTISE_ADDR: set it, as this host has no address but its loopback's")
}
