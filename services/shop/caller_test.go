package shop

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

// caller calls any RPC of a shop, those for other services included, as no mesh
// is there to keep it out.
type caller struct {
	t       *testing.T
	methods map[protoreflect.FullName]protoreflect.MethodDescriptor // by request
	conns   map[string]*grpc.ClientConn                             // by host
	admin   string                                                  // an access token
	spans   *tracetest.InMemoryExporter                             // of the shop; nil: they are not looked at
	traces  []string                                                // of the calls that were made at once, as the last ones
}

// newCaller chooses the gRPC ports of a shop and adds them to its environment.
func newCaller(t *testing.T, environ map[string]string) *caller {
	t.Helper()
	c := &caller{t: t, methods: methods(), conns: map[string]*grpc.ClientConn{}}
	for _, name := range owners {
		c.reach(name, environ)
	}
	return c
}

// reach chooses the port of one service.
func (c *caller) reach(name string, environ map[string]string) {
	c.t.Helper()
	addr := freeAddr(c.t)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	environ[name+"_GRPC_ADDR"] = addr
	c.conns[strings.ToLower(name)] = conn
}

// in returns c for a subtest.
func (c *caller) in(t *testing.T) *caller { d := *c; d.t = t; return &d }

// try calls the RPC that the requests belong to, a stream or not, and returns
// all that it answers.
func (c *caller) try(token string, send ...proto.Message) (replies []proto.Message, err error) {
	return c.tryIn(newTrace(), token, send...)
}

// newTrace returns the id of a trace that nothing belongs to.
func newTrace() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// tryIn is try in a trace that is kept.
func (c *caller) tryIn(trace, token string, send ...proto.Message) (replies []proto.Message, err error) {
	m := c.methods[send[0].ProtoReflect().Descriptor().FullName()]
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-00000000000000ca-01")
	if token == "" {
		token = c.admin
	}
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	host := proto.GetExtension(m.Parent().Options(), meshpb.E_Service).(*meshpb.ServicePolicy).GetHost()
	stream, err := c.conns[host].NewStream(ctx, desc, "/"+rpcName(m))
	if err != nil {
		return nil, err
	}
	for _, req := range send {
		if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // RecvMsg tells why it ended
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return receive(stream, m)
}

func receive(stream grpc.ClientStream, m protoreflect.MethodDescriptor) (replies []proto.Message, err error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	for err == nil {
		reply := kind.New().Interface()
		if err = stream.RecvMsg(reply); err == nil {
			replies = append(replies, reply)
		}
		if err == nil && !m.IsStreamingServer() {
			return replies, nil
		}
	}
	if errors.Is(err, io.EOF) {
		return replies, nil
	}
	return nil, err
}

// ask makes a call that must succeed, on behalf of the administrator.
func ask[R proto.Message](c *caller, req proto.Message) R { return askAs[R](c, "", req) }

// askAs is ask on behalf of somebody else.
func askAs[R proto.Message](c *caller, token string, req proto.Message) R {
	c.t.Helper()
	replies, err := c.try(token, req)
	if err != nil {
		c.t.Fatalf("%T: %v", req, err)
	}
	return replies[0].(R)
}

func (c *caller) login(email, password string) *userpb.LoginResponse {
	c.t.Helper()
	return ask[*userpb.LoginResponse](c, &userpb.LoginRequest{Email: email, Password: password})
}

// until waits for what comes by itself.
func (c *caller) until(done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatal("it did not come within 10 s")
		}
	}
}

// methods returns all RPCs of our contracts by their requests, each of which
// belongs to one RPC.
func methods() map[protoreflect.FullName]protoreflect.MethodDescriptor {
	found := map[protoreflect.FullName]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			if !proto.HasExtension(s.Options(), meshpb.E_Service) {
				continue
			}
			for j := range s.Methods().Len() {
				found[s.Methods().Get(j).Input().FullName()] = s.Methods().Get(j)
			}
		}
		return true
	})
	return found
}

func rpcName(m protoreflect.MethodDescriptor) string {
	return string(m.Parent().FullName()) + "/" + string(m.Name())
}
