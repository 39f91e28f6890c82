package envoy

import (
	"fmt"
	"slices"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/meshmart/meshmart/tests/mesh/held"
)

// Call returns what the sidecar does when its service calls an RPC: the aspects
// Timeout, Attempts, PerTry and On.
func (v *View) Call(host string, port uint32, path string) (held.Policy, error) {
	r := v.route(host, port, path)
	if r == nil {
		return held.Policy{}, fmt.Errorf("no route of its own for %s at %s", path, host)
	}
	a := r.GetRoute()
	p := held.Policy{Timeout: a.GetTimeout().AsDuration(), Attempts: 1}
	if retry := a.GetRetryPolicy(); retry.GetNumRetries().GetValue() > 0 {
		p.Attempts += int(retry.GetNumRetries().GetValue())
		p.PerTry = retry.GetPerTryTimeout().AsDuration()
		p.On = held.RetryOn(retry.GetRetryOn())
	}
	if most := a.GetMaxStreamDuration(); most != nil {
		return p, fmt.Errorf("%s: a max_stream_duration that no contract has: %v", path, most)
	}
	return p, nil
}

// route is the first one that takes the path, if it is for this path only.
func (v *View) route(host string, port uint32, path string) *route.Route {
	for _, h := range v.Routes[fmt.Sprint(port)].GetVirtualHosts() {
		if !slices.Contains(h.GetDomains(), host) {
			continue
		}
		for _, r := range h.GetRoutes() {
			if r.GetMatch().GetPath() == path {
				return r
			}
			if r.GetMatch().GetPath() == "" { // a prefix or an expression, which comes first
				return nil
			}
		}
	}
	return nil
}

// To are the clusters of a service, all versions: empty if the sidecar lets
// nobody call it.
func (v *View) To(host string) []*cluster.Cluster {
	var out []*cluster.Cluster
	for name, c := range v.Clusters {
		if strings.HasPrefix(name, "outbound|") && strings.HasSuffix(name, "|"+host) {
			out = append(out, c)
		}
	}
	return out
}

// Server returns whom a cluster takes for the service: the names that its
// certificate may have. None means that it is not encrypted.
func Server(c *cluster.Cluster) []string {
	sockets := []*cluster.Cluster_TransportSocketMatch{{TransportSocket: c.GetTransportSocket()}}
	var names []string
	for _, s := range append(sockets, c.GetTransportSocketMatches()...) {
		t := &tls.UpstreamTlsContext{}
		if s.GetTransportSocket().GetTypedConfig().UnmarshalTo(t) != nil {
			continue
		}
		//lint:ignore SA1019 it is what istiod sends
		for _, m := range t.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchSubjectAltNames() {
			names = append(names, m.GetExact())
		}
	}
	return names
}
