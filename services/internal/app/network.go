package app

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshmart/meshmart/services/internal/rpc"
)

// A Network is how services find each other.
type Network interface {
	// Listen returns where a service takes calls, beside its GRPC_ADDR.
	Listen(name string) (net.Listener, error)
	// Target returns how a service is called.
	Target(name string) (target string, opts []grpc.DialOption)
}

// network returns how services find each other in the mesh that they are
// configured for. Those that share a process need none: what they are configured
// for is changed to that.
func network(cfg *config, opt Options) Network {
	if _, inProcess := opt.Network.(*Memory); inProcess {
		cfg.Mesh = ""
	}
	switch {
	case opt.Network != nil:
		return opt.Network
	case cfg.Mesh == rpc.Proxyless:
		return xds{opt.Environ, cfg.PodNamespace}
	}
	return dns{opt.Environ}
}

// dns finds a service by its name, as Kubernetes and a mesh have it, or at the
// address in $NAME_ADDR.
type dns struct{ environ map[string]string }

func (dns) Listen(string) (net.Listener, error) { return nil, nil }

func (n dns) Target(name string) (string, []grpc.DialOption) {
	return cmp.Or(n.environ[peerVariable(name)], name+":9090"), []grpc.DialOption{grpc.WithResolvers(fresh{resolver.Get("dns")})}
}

// xds has the mesh's control plane find a service, by its full name in the mesh:
// that in $NAME_ADDR, or of its namespace.
type xds struct {
	environ   map[string]string
	namespace string
}

func (xds) Listen(string) (net.Listener, error) { return nil, nil }

func (x xds) Target(name string) (string, []grpc.DialOption) {
	addr := cmp.Or(x.environ[peerVariable(name)], fmt.Sprintf("%s.%s.svc.cluster.local:9090", name, x.namespace))
	return "xds:///" + strings.TrimPrefix(addr, "xds:///"), nil
}

// Memory connects services that share a process, without any socket.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
}

// insider returns who may call INTERNAL RPCs: within a process its own services;
// between processes those on this machine, as a mesh's sidecar is. TRUST_NETWORK
// says that somebody else sees to it, and without proxies it is the server itself
// that lets in whom the mesh lists.
func insider(cfg *config, network Network) func(net.Addr) bool {
	_, inProcess := network.(*Memory)
	return func(from net.Addr) bool {
		if cfg.TrustNetwork || cfg.Mesh == rpc.Proxyless || from.Network() == "bufconn" {
			return true
		}
		tcp, ok := from.(*net.TCPAddr)
		return ok && !inProcess && (tcp.IP.IsLoopback() || cfg.Mesh == rpc.Istio && tcp.IP.Equal(istioInbound6))
	}
}

// istioInbound6 is where Istio's sidecar passes calls over IPv6 on from. Over
// IPv4 that is 127.0.0.6, of the loopback's.
var istioInbound6 = net.ParseIP("::6")

// memoryBuffer is how much a connection holds in each direction, in bytes.
const memoryBuffer = 256 << 10

func (n *Memory) listener(name string) *bufconn.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*bufconn.Listener{}
	}
	if n.listeners[name] == nil {
		n.listeners[name] = bufconn.Listen(memoryBuffer)
	}
	return n.listeners[name]
}

// Listen implements Network.
func (n *Memory) Listen(name string) (net.Listener, error) { return n.listener(name), nil }

// Target implements Network.
func (n *Memory) Target(name string) (string, []grpc.DialOption) {
	return "passthrough:///" + name, []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := n.listener(name).DialContext(ctx)
			if err != nil {
				return nil, fmt.Errorf("dial %s in memory: %w", name, err)
			}
			return c, nil
		}),
	}
}
