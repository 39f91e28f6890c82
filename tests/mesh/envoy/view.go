// Package envoy reads what istiod would tell an Envoy, and works out what that
// Envoy would do with a call. It shows that the manifests are translated into
// what they are meant to be; it runs no Envoy.
package envoy

import (
	"context"
	"fmt"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

const types = "type.googleapis.com/envoy.config."

// View is the configuration of one sidecar.
type View struct {
	Clusters  map[string]*cluster.Cluster
	Listeners map[string]*listener.Listener
	// Routes are those of the outbound listeners, by name.
	Routes map[string]*route.RouteConfiguration
}

// Fetch asks istiod as the sidecar of a pod would. id and metadata are the node's.
func Fetch(ctx context.Context, xds, id string, metadata map[string]any) (*View, error) {
	cc, err := grpc.NewClient(xds, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(cc).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	fields, err := structpb.NewStruct(metadata)
	if err != nil {
		return nil, err
	}
	a := asker{stream, &core.Node{Id: id, Metadata: fields}}
	v := &View{map[string]*cluster.Cluster{}, map[string]*listener.Listener{}, map[string]*route.RouteConfiguration{}}
	return v, v.read(a)
}

func (v *View) read(a asker) error {
	if err := ask(a, types+"cluster.v3.Cluster", nil, v.Clusters); err != nil {
		return err
	}
	if err := ask(a, types+"listener.v3.Listener", nil, v.Listeners); err != nil {
		return err
	}
	var names []string
	for _, l := range v.Listeners {
		for _, m := range managers(l) {
			if name := m.GetRds().GetRouteConfigName(); name != "" {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return ask(a, types+"route.v3.RouteConfiguration", names, v.Routes)
}

// asker is one stream of xDS.
type asker struct {
	stream grpc.BidiStreamingClient[discovery.DiscoveryRequest, discovery.DiscoveryResponse]
	node   *core.Node
}

// ask reads all resources of a type into a map by name.
func ask[T interface {
	proto.Message
	GetName() string
}](a asker, typ string, names []string, into map[string]T) error {
	if err := a.stream.Send(&discovery.DiscoveryRequest{Node: a.node, TypeUrl: typ, ResourceNames: names}); err != nil {
		return err
	}
	for {
		r, err := a.stream.Recv()
		if err != nil {
			return fmt.Errorf("%s: %w", typ, err)
		}
		if err := a.stream.Send(&discovery.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResourceNames: names, VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce()}); err != nil {
			return err
		}
		if r.GetTypeUrl() != typ {
			continue // an update of what we have
		}
		return unpack(r.GetResources(), into)
	}
}

func unpack[T interface {
	proto.Message
	GetName() string
}](resources []*anypb.Any, into map[string]T) error {
	for _, any := range resources {
		m := *new(T)
		m = m.ProtoReflect().New().Interface().(T)
		if err := any.UnmarshalTo(m); err != nil {
			return err
		}
		if v, ok := proto.Message(m).(interface{ ValidateAll() error }); ok {
			if err := v.ValidateAll(); err != nil {
				return fmt.Errorf("istiod sent an invalid %T: %w", m, err)
			}
		}
		into[m.GetName()] = m
	}
	return nil
}

// managers are the parts of a listener that read HTTP.
func managers(l *listener.Listener) []*hcm.HttpConnectionManager {
	var out []*hcm.HttpConnectionManager
	for _, chain := range l.GetFilterChains() {
		if m := manager(chain); m != nil {
			out = append(out, m)
		}
	}
	return out
}

func manager(chain *listener.FilterChain) *hcm.HttpConnectionManager {
	for _, f := range chain.GetFilters() {
		m := &hcm.HttpConnectionManager{}
		if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil {
			return m
		}
	}
	return nil
}
