// Package contract is what the .proto files say of the whole shop: every
// service and RPC with its policy, read from a compiler's request and checked
// as a whole. The targets of the generator are written from it, and from
// nothing else.
//
// All lists are sorted, so that what is generated from them is always the same.
package contract

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// Shop is all services together, and where they run.
type Shop struct {
	Options
	// Services are those that have contracts, by host.
	Services []*Service
}

// Service is what runs under one name: a Kubernetes Service and a service
// account. It may serve several services of protobuf.
type Service struct {
	Host string
	// Port is where it serves gRPC.
	Port uint32
	// Names are the full names of its services, such as "user.v1.AuthService".
	Names []string
	// RPCs are in the order of the file, service by service.
	RPCs []*RPC
	// Files are those of its package, its events' too.
	Files []protoreflect.FileDescriptor
}

// RPC is one method and its policy.
type RPC struct {
	// Service is the full name of its service, Method its own one.
	Service, Method string
	// Host is where it is served.
	Host string
	// Source is where the contract says all this, such as
	// "proto/order/v1/order.proto:21".
	Source Source
	// Callers are the service accounts that may call it, sorted.
	Callers []string
	// Access is on whose behalf it may be called.
	Access meshpb.Access
	// Timeout bounds a call with its retries, or a whole stream; 0 for none.
	Timeout time.Duration
	// Retry is nil for an RPC that nobody repeats.
	Retry *Retry
	// Rate bounds the calls that one replica takes; nil for no bound.
	Rate *meshpb.Rate
	// SLO is how well it has to work; nil if that is not said.
	SLO *meshpb.Slo
	// Calls are the RPCs that it makes, by full method with the leading slash.
	Calls []string
	// ReadOnly says that it changes nothing, Idempotent that it may be repeated.
	ReadOnly, Idempotent bool
	// ClientStreams and ServerStreams say who sends more than one message.
	ClientStreams, ServerStreams bool
	// Routes are its public REST routes; nil if it has none.
	Routes []Route
	// Descriptor has what documents are made of: comments and messages.
	Descriptor protoreflect.MethodDescriptor
}

// Retry is how a mesh repeats an RPC.
type Retry struct {
	// Attempts is how often after the first one.
	Attempts int
	// PerTry bounds one attempt; 0 for none.
	PerTry time.Duration
	// On are the codes that are repeated, never empty.
	On []codes.Code
}

// Route is a public REST route.
type Route struct {
	// Verb is the HTTP method.
	Verb string
	// Path is the template, such as "/v1/orders/{id}:cancel".
	Path string
}

// Source is a place in a .proto file.
type Source struct {
	// File is relative to the repository.
	File string
	// Line counts from 1; 0 if it is not known.
	Line int
}

func (s Source) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// Path is how the RPC is called on the wire: "/order.v1.OrderService/GetOrder".
func (r *RPC) Path() string { return "/" + r.FullName() }

// FullName is "order.v1.OrderService/GetOrder".
func (r *RPC) FullName() string { return r.Service + "/" + r.Method }

// Streaming reports whether either side may send more than one message.
func (r *RPC) Streaming() bool { return r.ClientStreams || r.ServerStreams }

// NeedsToken reports whether a call must bring a user's token.
func (r *RPC) NeedsToken() bool {
	return r.Access == meshpb.Access_ACCESS_USER || r.Access == meshpb.Access_ACCESS_ADMIN
}

// NeedsAdmin reports whether that user must be an administrator.
func (r *RPC) NeedsAdmin() bool { return r.Access == meshpb.Access_ACCESS_ADMIN }

// Retried reports whether a mesh repeats it.
func (r *RPC) Retried() bool { return r.Retry != nil }

// AccessName is "public", "user", "admin" or "internal".
func (r *RPC) AccessName() string {
	return strings.ToLower(strings.TrimPrefix(r.Access.String(), "ACCESS_"))
}

// Name is the RPC in lower case with hyphens, for the names of routes:
// "orderservice-getorder". It is unique within a host.
func (r *RPC) Name() string {
	service := r.Service[strings.LastIndexByte(r.Service, '.')+1:]
	return strings.ToLower(service + "-" + r.Method)
}

// Callers are the service accounts that call any RPC of the service: who may
// ask for its health, too.
func (s *Service) Callers() []string {
	var all []string
	for _, r := range s.RPCs {
		all = append(all, r.Callers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// For are the RPCs of the service that the account may call.
func (s *Service) For(account string) []*RPC {
	return s.filter(func(r *RPC) bool { return slices.Contains(r.Callers, account) })
}

// CallsOn reports whether an RPC of the service waits for another service's: it may
// then be UNAVAILABLE while nothing is wrong with the replica that says so.
func (s *Service) CallsOn() bool {
	return slices.ContainsFunc(s.RPCs, func(r *RPC) bool { return len(r.Calls) > 0 })
}

// WithToken are the RPCs that ask for a user's token.
func (s *Service) WithToken() []*RPC { return s.filter((*RPC).NeedsToken) }

// WithAdmin are the RPCs that ask for an administrator's token.
func (s *Service) WithAdmin() []*RPC { return s.filter((*RPC).NeedsAdmin) }

func (s *Service) filter(keep func(*RPC) bool) []*RPC {
	out := []*RPC{}
	for _, r := range s.RPCs {
		if keep(r) {
			out = append(out, r)
		}
	}
	return out
}

// ByCallers are the RPCs of the service grouped by who may call them.
func (s *Service) ByCallers() []Group {
	var groups []Group
	for _, r := range s.RPCs {
		i := slices.IndexFunc(groups, func(g Group) bool { return slices.Equal(g.Callers, r.Callers) })
		if i < 0 {
			i, groups = len(groups), append(groups, Group{Callers: r.Callers})
		}
		groups[i].RPCs = append(groups[i].RPCs, r)
	}
	return groups
}

// Group is RPCs with the same callers.
type Group struct {
	Callers []string
	RPCs    []*RPC
}

// RPCs are all RPCs of the shop, service by service.
func (s *Shop) RPCs() []*RPC {
	var all []*RPC
	for _, svc := range s.Services {
		all = append(all, svc.RPCs...)
	}
	return all
}

// ServiceOf is the service of the RPC.
func (s *Shop) ServiceOf(r *RPC) *Service { return s.Service(r.Host) }

// Service returns the service of a host; nil if it has no contract, as the edge.
func (s *Shop) Service(host string) *Service {
	for _, svc := range s.Services {
		if svc.Host == host {
			return svc
		}
	}
	return nil
}

// Accounts are the names of everything that runs code of the shop: the services
// with contracts and the edge, sorted.
func (s *Shop) Accounts() []string {
	all := []string{s.Edge.Host}
	for _, svc := range s.Services {
		all = append(all, svc.Host)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Callees are the services that an account calls, by host.
func (s *Shop) Callees(account string) []*Service {
	var out []*Service
	for _, svc := range s.Services {
		if slices.Contains(svc.Callers(), account) {
			out = append(out, svc)
		}
	}
	return out
}

// BackendsOf are the stores and brokers that an account uses, by host.
func (s *Shop) BackendsOf(account string) []Backend {
	var out []Backend
	for _, b := range s.Backends {
		if slices.Contains(b.Users, account) {
			out = append(out, b)
		}
	}
	return out
}

// FQDN is the full name of a Kubernetes Service of the shop.
func (s *Shop) FQDN(host string) string {
	return host + "." + s.Namespace + ".svc.cluster.local"
}

// Principal is a service account of the shop as Istio writes it.
func (s *Shop) Principal(account string) string {
	return s.TrustDomain + "/ns/" + s.Namespace + "/sa/" + account
}
