package policy

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/meshmart/meshmart/proto/greeter/v1"
	_ "github.com/meshmart/meshmart/proto/inventory/v1"
	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	_ "github.com/meshmart/meshmart/proto/order/v1"
	_ "github.com/meshmart/meshmart/proto/payment/v1"
	_ "github.com/meshmart/meshmart/proto/product/v1"
	_ "github.com/meshmart/meshmart/proto/user/v1"
)

// each calls fn with every RPC of our contracts.
func each(t *testing.T, fn func(name string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	n := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(f.Options().(interface{ GetGoPackage() string }).GetGoPackage()), "github.com/meshmart/") {
			return true
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				n++
				fn("/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()), s.Methods().Get(j))
			}
		}
		return true
	})
	if n < 40 {
		t.Fatalf("only %d RPCs found", n)
	}
}

func TestEveryRPCHasAWholePolicy(t *testing.T) {
	hosts := map[string]bool{"gateway": true}
	each(t, func(name string, _ protoreflect.MethodDescriptor) {
		if p, ok := Of(name); ok {
			hosts[p.Host] = true
		}
	})
	each(t, func(name string, m protoreflect.MethodDescriptor) {
		p, ok := Of(name)
		if !ok {
			t.Errorf("%s has no policy", name)
			return
		}
		if p.Access == meshpb.Access_ACCESS_UNSPECIFIED || p.Host == "" || len(p.Callers) == 0 {
			t.Errorf("%s: access %v, host %q, callers %q", name, p.Access, p.Host, p.Callers)
		}
		for _, c := range p.Callers {
			if !hosts[c] {
				t.Errorf("%s: the caller %q does not exist", name, c)
			}
		}
		if !p.Streaming && p.Timeout <= 0 {
			t.Errorf("%s has no timeout", name)
		}
		if p.Access == meshpb.Access_ACCESS_INTERNAL && proto.HasExtension(m.Options(), annotations.E_Http) {
			t.Errorf("%s is internal and has a public route", name)
		}
	})
}

func TestRetriesAreOnlyWhereRepeatingIsSafe(t *testing.T) {
	each(t, func(name string, m protoreflect.MethodDescriptor) {
		opts := proto.GetExtension(m.Options(), meshpb.E_Method).(*meshpb.MethodPolicy)
		r := opts.GetRetry()
		if r == nil {
			return
		}
		p, _ := Of(name)
		if !p.Idempotent || p.Streaming {
			t.Errorf("%s: idempotent %v, streaming %v, and yet a retry", name, p.Idempotent, p.Streaming)
		}
		if all := r.GetPerTryTimeout().AsDuration() * time.Duration(r.GetAttempts()+1); all > p.Timeout {
			t.Errorf("%s: %d attempts of %v do not fit into %v", name, r.GetAttempts()+1, r.GetPerTryTimeout().AsDuration(), p.Timeout)
		}
		for _, c := range r.GetOn() {
			if c == code.Code_CANCELLED || c == code.Code_RESOURCE_EXHAUSTED {
				t.Errorf("%s is retried on %v", name, c)
			}
		}
	})
}

// The time of a call has to hold the times of the calls that it makes.
func TestCallsFitIntoTheirCallers(t *testing.T) {
	each(t, func(name string, m protoreflect.MethodDescriptor) {
		p, _ := Of(name)
		var sum time.Duration
		for _, c := range proto.GetExtension(m.Options(), meshpb.E_Method).(*meshpb.MethodPolicy).GetCalls() {
			callee, ok := Of("/" + c)
			if !ok {
				t.Errorf("%s calls %s, which does not exist", name, c)
				continue
			}
			sum += callee.Timeout
		}
		if sum > p.Timeout && sum > 0 {
			t.Errorf("%s has %v for calls that may take %v", name, p.Timeout, sum)
		}
	})
}

func TestLinkedAreAllOurRPCs(t *testing.T) {
	linked := map[string]bool{}
	for _, p := range Linked() {
		linked[p.Method] = true
	}
	n := 0
	each(t, func(name string, _ protoreflect.MethodDescriptor) {
		n++
		if !linked[name] {
			t.Errorf("%s is not among them", name)
		}
	})
	if len(linked) != n {
		t.Errorf("%d are linked, want %d", len(linked), n)
	}
	if p, _ := Of("/order.v1.OrderService/CreateOrder"); p.SLO.GetLatency().AsDuration() <= 0 {
		t.Errorf("CreateOrder promises %v", p.SLO)
	}
}

func TestMachineryIsExempt(t *testing.T) {
	for method, want := range map[string]bool{
		"/grpc.health.v1.Health/Check":                              true,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": true,
		"/order.v1.OrderService/GetOrder":                           false,
		"/evil.grpc.health.v1.Health/Check":                         false,
	} {
		if got := Exempt(method); got != want {
			t.Errorf("Exempt(%q) = %v", method, got)
		}
	}
	if _, ok := Of("/no.such.Service/Method"); ok {
		t.Error("an RPC that does not exist has a policy")
	}
}
