//go:build proxyless

package rpc_test

import (
	"net"
	"strconv"
	"sync"

	clusterpb "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointpb "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerpb "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacpb "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routepb "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacpb "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerpb "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmpb "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	adspb "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherpb "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// plane is the least of a control plane: it tells everybody all that it has.
type plane struct {
	adspb.UnimplementedAggregatedDiscoveryServiceServer
	addr string

	mu        sync.Mutex
	resources map[string]proto.Message
	waiting   map[string]chan struct{} // closed when a resource is asked for
	changed   chan struct{}            // closed at a change
}

func newPlane(addr string) *plane {
	return &plane{addr: addr, resources: map[string]proto.Message{}, waiting: map[string]chan struct{}{}, changed: make(chan struct{})}
}

func (p *plane) register(s *grpc.Server) { adspb.RegisterAggregatedDiscoveryServiceServer(s, p) }

func (p *plane) set(m proto.Message) {
	name := ""
	switch m := m.(type) {
	case interface{ GetName() string }:
		name = m.GetName()
	case interface{ GetClusterName() string }:
		name = m.GetClusterName()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resources[typeURL(m)+" "+name] = m
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *plane) asked(name string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[name] == nil {
		p.waiting[name] = make(chan struct{})
	}
	return p.waiting[name]
}

// StreamAggregatedResources answers a request when there is what it asks for,
// and an acknowledgement at the next change.
func (p *plane) StreamAggregatedResources(s adspb.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	names, sent, requests := map[string][]string{}, map[string]int{}, make(chan *adspb.DiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-s.Context().Done():
				return
			}
		}
	}()
	for version := 1; ; version++ {
		changed := p.send(s, names, sent, version)
		select {
		case <-changed:
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			names[r.GetTypeUrl()] = r.GetResourceNames()
			p.tell(r.GetResourceNames())
		}
	}
}

func (p *plane) tell(names []string) {
	for _, n := range names {
		c := p.asked(n)
		select {
		case <-c:
		default:
			close(c)
		}
	}
}

// send sends what was asked for and has come since.
func (p *plane) send(s adspb.AggregatedDiscoveryService_StreamAggregatedResourcesServer, names map[string][]string, sent map[string]int, version int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind, wanted := range names {
		r := &adspb.DiscoveryResponse{TypeUrl: kind, VersionInfo: strconv.Itoa(version), Nonce: strconv.Itoa(version)}
		for _, n := range wanted {
			if m := p.resources[kind+" "+n]; m != nil {
				r.Resources = append(r.Resources, wrap(m))
			}
		}
		if len(r.Resources) > sent[kind] {
			sent[kind] = len(r.Resources)
			s.Send(r)
		}
	}
	return p.changed
}

func wrap(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func typeURL(m proto.Message) string { return wrap(m).GetTypeUrl() }

func address(addr string) *corepb.Address {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return &corepb.Address{Address: &corepb.Address_SocketAddress{SocketAddress: &corepb.SocketAddress{
		Address: host, PortSpecifier: &corepb.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}
}

func filter(name string, m proto.Message) *hcmpb.HttpFilter {
	return &hcmpb.HttpFilter{Name: name, ConfigType: &hcmpb.HttpFilter_TypedConfig{TypedConfig: wrap(m)}}
}

// inbound lets anybody call every RPC at addr but one.
func inbound(name, addr, denied string) proto.Message {
	path := &matcherpb.PathMatcher{Rule: &matcherpb.PathMatcher_Path{Path: &matcherpb.StringMatcher{MatchPattern: &matcherpb.StringMatcher_Exact{Exact: denied}}}}
	rules := &rbacpb.RBAC{Action: rbacpb.RBAC_DENY, Policies: map[string]*rbacpb.Policy{"denied": {
		Permissions: []*rbacpb.Permission{{Rule: &rbacpb.Permission_UrlPath{UrlPath: path}}},
		Principals:  []*rbacpb.Principal{{Identifier: &rbacpb.Principal_Any{Any: true}}},
	}}}
	route := &routepb.Route{
		Match:  &routepb.RouteMatch{PathSpecifier: &routepb.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routepb.Route_NonForwardingAction{NonForwardingAction: &routepb.NonForwardingAction{}},
	}
	hcm := &hcmpb.HttpConnectionManager{
		HttpFilters: []*hcmpb.HttpFilter{filter("rbac", &httprbacpb.RBAC{Rules: rules}), filter("router", &routerpb.Router{})},
		RouteSpecifier: &hcmpb.HttpConnectionManager_RouteConfig{RouteConfig: &routepb.RouteConfiguration{
			VirtualHosts: []*routepb.VirtualHost{{Domains: []string{"*"}, Routes: []*routepb.Route{route}}},
		}},
	}
	return &listenerpb.Listener{Name: name, Address: address(addr), FilterChains: []*listenerpb.FilterChain{{
		Name: "all", Filters: []*listenerpb.Filter{{Name: "http", ConfigType: &listenerpb.Filter_TypedConfig{TypedConfig: wrap(hcm)}}},
	}}}
}

// outbound sends calls of name to addr, and repeats them.
func outbound(name, addr string, retries uint32) []proto.Message {
	retry := &routepb.RetryPolicy{RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(retries)}
	route := &routepb.Route{
		Match: &routepb.RouteMatch{PathSpecifier: &routepb.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routepb.Route_Route{Route: &routepb.RouteAction{
			ClusterSpecifier: &routepb.RouteAction_Cluster{Cluster: "greeter"}, RetryPolicy: retry,
		}},
	}
	hcm := &hcmpb.HttpConnectionManager{
		HttpFilters: []*hcmpb.HttpFilter{filter("router", &routerpb.Router{})},
		RouteSpecifier: &hcmpb.HttpConnectionManager_RouteConfig{RouteConfig: &routepb.RouteConfiguration{
			VirtualHosts: []*routepb.VirtualHost{{Domains: []string{"*"}, Routes: []*routepb.Route{route}}},
		}},
	}
	ads := &corepb.ConfigSource{ConfigSourceSpecifier: &corepb.ConfigSource_Ads{Ads: &corepb.AggregatedConfigSource{}}}
	endpoint := &endpointpb.LbEndpoint{HostIdentifier: &endpointpb.LbEndpoint_Endpoint{Endpoint: &endpointpb.Endpoint{Address: address(addr)}}}
	return []proto.Message{
		&listenerpb.Listener{Name: name, ApiListener: &listenerpb.ApiListener{ApiListener: wrap(hcm)}},
		&clusterpb.Cluster{
			Name:                 "greeter",
			ClusterDiscoveryType: &clusterpb.Cluster_Type{Type: clusterpb.Cluster_EDS},
			EdsClusterConfig:     &clusterpb.Cluster_EdsClusterConfig{EdsConfig: ads},
		},
		&endpointpb.ClusterLoadAssignment{ClusterName: "greeter", Endpoints: []*endpointpb.LocalityLbEndpoints{{
			Locality: &corepb.Locality{Region: "here"}, LoadBalancingWeight: wrapperspb.UInt32(1), LbEndpoints: []*endpointpb.LbEndpoint{endpoint},
		}}},
	}
}
