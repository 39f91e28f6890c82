package plane

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Call is one call to be made.
type Call struct {
	// Host and Port are of the service, Method is the full one.
	Host   string
	Port   uint32
	Method string
	// Stream says that it is not unary.
	Stream bool
	// Fail has every attempt answered with UNAVAILABLE.
	Fail bool
}

// Result is what became of it.
type Result struct {
	Err error
	// Attempts are those that reached a server.
	Attempts []Attempt
	// Begin is when the call began.
	Begin time.Time
}

// Code is how the call ended.
func (r Result) Code() codes.Code { return status.Code(r.Err) }

// patience bounds a call that nothing else ends. It is no deadline, which
// servers would see.
const patience = time.Minute

// Client is a workload that calls others by way of what istiod tells it.
type Client struct {
	Node     Node
	resolver grpc.DialOption
	mu       sync.Mutex
	conns    map[string]*grpc.ClientConn
	record   *record
}

var calls atomic.Int64 // numbers them

func newClient(i *Istiod, n Node, r *record) (*Client, error) {
	builder, err := xds.NewXDSResolverWithConfigForTesting(n.Bootstrap(i.XDS))
	if err != nil {
		return nil, err
	}
	return &Client{Node: n, resolver: grpc.WithResolvers(builder), conns: map[string]*grpc.ClientConn{}, record: r}, nil
}

// conn returns the connection to a service, the same one each time.
func (c *Client) conn(target string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cc := c.conns[target]; cc != nil {
		return cc, nil
	}
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, err
	}
	cc, err := grpc.NewClient("xds:///"+target, c.resolver, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	c.conns[target] = cc
	return cc, nil
}

// Do makes a call and waits for its end.
func (c *Client) Do(ctx context.Context, call Call) Result {
	cc, err := c.conn(fmt.Sprintf("%s:%d", call.Host, call.Port))
	if err != nil {
		return Result{Err: err}
	}
	return Do(ctx, cc, call, c.record)
}

// Do makes a call over a connection. r may be nil.
func Do(ctx context.Context, cc *grpc.ClientConn, call Call, r *record) Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(patience, cancel).Stop()
	number := fmt.Sprint(calls.Add(1))
	ctx = metadata.AppendToOutgoingContext(ctx, headerCall, number)
	if call.Fail {
		ctx = metadata.AppendToOutgoingContext(ctx, headerFail, "1")
	}
	result := Result{Begin: time.Now()}
	if call.Stream {
		result.Err = stream(ctx, cc, call.Method)
	} else {
		result.Err = cc.Invoke(ctx, call.Method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	if r != nil {
		result.Attempts = r.take(number)
	}
	return result
}

func stream(ctx context.Context, cc *grpc.ClientConn, method string) error {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil { // which says EOF if the stream has ended
		return s.RecvMsg(&emptypb.Empty{})
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(&emptypb.Empty{})
}

// Close ends its connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cc := range c.conns {
		_ = cc.Close()
	}
}
