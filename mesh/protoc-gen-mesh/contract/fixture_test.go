package contract

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// method is an RPC of a test's contract. Its line is 10 for the first one of the
// file, 20 for the second, and so on.
type method struct {
	name   string
	policy string // a MethodPolicy as prototext; "-" for none
	level  descriptorpb.MethodOptions_IdempotencyLevel
	stream bool
	get    string // the path of a public route, if any
}

// service is a contract of its own: "a.v1.AService" is in a/v1/a.proto.
type service struct {
	name    string
	policy  string // a ServicePolicy; "-" for none
	methods []*method
}

const (
	readOnly   = descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	idempotent = descriptorpb.MethodOptions_IDEMPOTENT
)

// shopOf is a shop without fault: order calls stock, and the gateway both.
func shopOf() []*service {
	return []*service{
		{name: "order.v1.Order", policy: `host: "order" port: 9090`, methods: []*method{
			{name: "Create", policy: `callers: "gateway" access: ACCESS_USER timeout {seconds: 5} calls: "stock.v1.Stock/Reserve"`, level: idempotent, get: "/v1/orders"},
			{name: "Watch", policy: `callers: "gateway" access: ACCESS_USER`, level: readOnly, stream: true},
		}},
		{name: "stock.v1.Stock", policy: `host: "stock" port: 9090`, methods: []*method{
			{name: "Reserve", policy: `callers: "order" access: ACCESS_INTERNAL timeout {seconds: 2} retry {attempts: 2 per_try_timeout {nanos: 600000000}}`, level: idempotent},
			{name: "Keys", policy: `callers: "gateway" access: ACCESS_PUBLIC timeout {seconds: 1} rate {per_second: 1 burst: 1} slo {availability: 0.9}`, level: readOnly, get: "/keys"},
		}},
	}
}

// change returns the shop with one RPC, by its own name, changed.
func change(name string, edit func(*method)) []*service {
	shop := shopOf()
	for _, s := range shop {
		for _, m := range s.methods {
			if m.name == name {
				edit(m)
			}
		}
	}
	return shop
}

func testOptions() Options {
	return Options{
		Namespace: "shop", TrustDomain: "cluster.local", Edge: Edge{"gateway", 8080},
		Issuer: "me", Audience: "us", Keys: "/keys", Root: "proto",
	}
}

func read(t *testing.T, services []*service) (*Shop, error) {
	t.Helper()
	var files []protoreflect.FileDescriptor
	for _, s := range services {
		files = append(files, s.compile(t))
	}
	return Read(files, testOptions())
}

// compile is what a compiler would make of the contract.
func (s *service) compile(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	dot := strings.LastIndexByte(s.name, '.')
	short := s.name[dot+1:]
	d := &descriptorpb.ServiceDescriptorProto{Name: &short, Options: &descriptorpb.ServiceOptions{}}
	if s.policy != "-" {
		proto.SetExtension(d.Options, meshpb.E_Service, parse(t, s.policy, &meshpb.ServicePolicy{}))
	}
	lines := []*descriptorpb.SourceCodeInfo_Location{{Path: []int32{6, 0}, Span: []int32{4, 0, 1}}}
	for i, m := range s.methods {
		d.Method = append(d.Method, m.descriptor(t))
		lines = append(lines, &descriptorpb.SourceCodeInfo_Location{Path: []int32{6, 0, 2, int32(i)}, Span: []int32{int32(10*(i+1)) - 1, 0, 1}})
	}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:    proto.String(strings.ReplaceAll(s.name[:dot], ".", "/") + "/" + strings.ToLower(short) + ".proto"),
		Package: proto.String(s.name[:dot]), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/duration.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{d}, SourceCodeInfo: &descriptorpb.SourceCodeInfo{Location: lines},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (m *method) descriptor(t *testing.T) *descriptorpb.MethodDescriptorProto {
	t.Helper()
	opts := &descriptorpb.MethodOptions{IdempotencyLevel: m.level.Enum()}
	if m.policy != "-" {
		proto.SetExtension(opts, meshpb.E_Method, parse(t, m.policy, &meshpb.MethodPolicy{}))
	}
	if m.get != "" {
		proto.SetExtension(opts, annotations.E_Http, &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: m.get}})
	}
	any := proto.String(".google.protobuf.Duration") // of no account here
	return &descriptorpb.MethodDescriptorProto{Name: &m.name, InputType: any, OutputType: any, Options: opts, ServerStreaming: &m.stream}
}

func parse[M proto.Message](t *testing.T, text string, m M) M {
	t.Helper()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}
