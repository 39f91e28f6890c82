// Package policy reads what the contracts say of each RPC: the options of
// mesh.v1 and protobuf's idempotency_level, from the compiled descriptors.
package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// Policy is what the contract says of one RPC.
type Policy struct {
	// Method is the full method, such as "/order.v1.OrderService/GetOrder".
	Method string
	// Host is the service that answers.
	Host string
	// Access is on whose behalf the RPC may be called.
	Access meshpb.Access
	// Callers are the service accounts that may call it.
	Callers []string
	// Timeout bounds a call, or a whole stream; 0 for none.
	Timeout time.Duration
	// ReadOnly says that a call changes nothing.
	ReadOnly bool
	// Idempotent says that a call may be repeated.
	Idempotent bool
	// RetryOn are the codes after which a mesh repeats a call; nil for none.
	RetryOn []codes.Code
	// Streaming says that either side may send more than one message.
	Streaming bool
	// Rate bounds the calls; nil for no bound.
	Rate *meshpb.Rate
	// SLO is what the RPC promises; nil for nothing.
	SLO *meshpb.Slo
	// RequestID is the request's field request_id, or nil if it has none.
	RequestID protoreflect.FieldDescriptor
}

var cache sync.Map // full method -> *Policy; descriptors never change

// Of returns the policy of a full method. It reports false for an RPC whose
// contract has none, as grpc.health.v1 and reflection.
func Of(method string) (*Policy, bool) {
	if p, ok := cache.Load(method); ok {
		return p.(*Policy), true
	}
	p := read(method)
	if p == nil {
		return nil, false
	}
	cache.Store(method, p)
	return p, true
}

// Linked returns the policies of all RPCs whose contracts are linked into the
// process, in no order.
func Linked() []*Policy {
	var ps []*Policy
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				if p, ok := Of("/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())); ok {
					ps = append(ps, p)
				}
			}
		}
		return true
	})
	return ps
}

func read(method string) *Policy {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok || !proto.HasExtension(m.Options(), meshpb.E_Method) {
		return nil
	}
	opts := proto.GetExtension(m.Options(), meshpb.E_Method).(*meshpb.MethodPolicy)
	svc, _ := proto.GetExtension(m.Parent().Options(), meshpb.E_Service).(*meshpb.ServicePolicy)
	level := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
	return &Policy{
		Method:     method,
		Host:       svc.GetHost(),
		Access:     opts.GetAccess(),
		Callers:    opts.GetCallers(),
		Timeout:    opts.GetTimeout().AsDuration(),
		ReadOnly:   level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		Idempotent: level != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
		RetryOn:    retryOn(opts.GetRetry()),
		Streaming:  m.IsStreamingClient() || m.IsStreamingServer(),
		Rate:       opts.GetRate(),
		SLO:        opts.GetSlo(),
		RequestID:  requestID(m.Input()),
	}
}

func retryOn(r *meshpb.Retry) []codes.Code {
	if r == nil {
		return nil
	}
	if len(r.GetOn()) == 0 {
		return []codes.Code{codes.Unavailable}
	}
	on := make([]codes.Code, len(r.GetOn()))
	for i, c := range r.GetOn() {
		on[i] = codes.Code(c)
	}
	return on
}

func requestID(m protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if f := m.Fields().ByName("request_id"); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		return f
	}
	return nil
}

// Exempt reports whether a method belongs to the machinery of gRPC itself,
// which has no contract of ours: health and reflection.
func Exempt(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.v1.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// Server is what RPCs are registered with.
type Server interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// Registered returns the policies of all RPCs that a server has been given. An
// RPC without a policy is an error that names it: it must not be served.
func Registered(s Server) ([]*Policy, error) {
	var ps []*Policy
	var errs []error
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			p, ok := Of(method)
			switch {
			case Exempt(method):
			case !ok || p.Access == meshpb.Access_ACCESS_UNSPECIFIED:
				errs = append(errs, fmt.Errorf("%s has no policy: declare (mesh.v1.method) in its .proto", method))
			default:
				ps = append(ps, p)
			}
		}
	}
	return ps, errors.Join(errs...)
}
