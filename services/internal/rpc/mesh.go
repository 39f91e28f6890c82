package rpc

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshmart/meshmart/services/internal/identity"
)

// Mesh is what encrypts, balances and repeats calls between services. The zero
// value is a mesh of proxies: the process then does none of it, so that attempts
// never multiply.
type Mesh string

// The kinds of mesh that the process must know of.
const (
	// NoMesh says that the process itself repeats, balances and looks at the
	// health of those that it calls, as their contracts say. It also encrypts, and
	// lets in whom they list, if it has an identity.
	NoMesh Mesh = "none"
	// Istio is a mesh of sidecars that pass calls over IPv6 on from an address of
	// their own.
	Istio Mesh = "istio"
	// Proxyless says that a mesh's control plane tells gRPC by xDS what its
	// proxies would do. It is in binaries that are built with -tags proxyless.
	Proxyless Mesh = "proxyless"
)

var meshes = []Mesh{NoMesh, Istio, "ambient", "linkerd", Proxyless}

// UnmarshalText implements encoding.TextUnmarshaler for the names of meshes.
func (m *Mesh) UnmarshalText(text []byte) error {
	v := Mesh(text)
	if v != "" && !slices.Contains(meshes, v) {
		names := make([]string, len(meshes))
		for i, known := range meshes {
			names[i] = string(known)
		}
		return fmt.Errorf("it is one of %s", strings.Join(names, ", "))
	}
	*m = v
	return nil
}

// repeats reports whether gRPC itself makes the attempts of a call.
func (m Mesh) repeats() bool { return m == NoMesh || m == Proxyless }

// dialOptions are the transport of a connection to a service, and who repeats
// its calls.
func (m Mesh) dialOptions(service string, own *identity.Identity) ([]grpc.DialOption, error) {
	switch m {
	case NoMesh:
		return meshless(service, own)
	case Proxyless:
		return proxylessClient()
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}, nil
}

// transport is what carries calls to a Server: a grpc.Server, or what a mesh
// without proxies has in its place.
type transport interface {
	grpc.ServiceRegistrar
	GetServiceInfo() map[string]grpc.ServiceInfo
	Serve(net.Listener) error
	Stop()
	GracefulStop()
}

// server returns the transport of a server with nothing registered.
func (m Mesh) server(log *slog.Logger, opts ...grpc.ServerOption) (transport, error) {
	switch m {
	case NoMesh:
		return grpc.NewServer(append(opts, spread(connectionAge, connectionGrace))...), nil
	case Proxyless:
		return proxylessServer(log, opts...)
	}
	return grpc.NewServer(opts...), nil
}
