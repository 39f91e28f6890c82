// Command bare is the yardstick: a gRPC server with nothing around it. It
// answers the same RPCs with the same messages as the shop, has no interceptor,
// and stores nothing. It also takes the place of a collector of traces, which
// forgets what it gets.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bare ADDRESS   (see tests/bench)")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	productpb.RegisterProductServiceServer(s, catalog{})
	greeterpb.RegisterGreetingServiceServer(s, greeter{})
	collectorpb.RegisterTraceServiceServer(s, sink{})
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

// catalog has as many products as anybody asks for, all alike.
type catalog struct {
	productpb.UnimplementedProductServiceServer
}

// description is as long as those of the catalog that is measured.
const description = "Hand-glazed stoneware that keeps 350 ml of coffee warm through a long meeting. Safe in the dishwasher and the microwave."

func product(id string) *productpb.Product {
	now := timestamppb.Now()
	return &productpb.Product{
		Id: id, Sku: "BENCH-000001", Name: "Halden Stoneware Mug 000001", Description: description, Category: "kitchen",
		Price: &money.Money{CurrencyCode: "EUR", Units: 14, Nanos: 900000000}, Image: "☕",
		CreateTime: now, UpdateTime: now, Etag: "1",
	}
}

func (catalog) GetProduct(_ context.Context, req *productpb.GetProductRequest) (*productpb.GetProductResponse, error) {
	return &productpb.GetProductResponse{Product: product(req.GetId())}, nil
}

func (catalog) ListProducts(_ context.Context, req *productpb.ListProductsRequest) (*productpb.ListProductsResponse, error) {
	reply := &productpb.ListProductsResponse{NextPageToken: "bm90IGEgdG9rZW4sIGJ1dCBhcyBsb25nIGFzIG9uZQ", TotalSize: 1000}
	for range req.GetPageSize() {
		reply.Products = append(reply.Products, product("01a1fe32-1be4-7f12-897d-02b16ffbd2e1"))
	}
	return reply, nil
}

type greeter struct {
	greeterpb.UnimplementedGreetingServiceServer
}

func greeting(name string, n int64) *greeterpb.Greeting {
	return &greeterpb.Greeting{Message: "Hello, " + name + "!", Language: "en", Number: n, CreateTime: timestamppb.Now()}
}

func (greeter) Greet(_ context.Context, req *greeterpb.GreetRequest) (*greeterpb.GreetResponse, error) {
	return &greeterpb.GreetResponse{Greeting: greeting(req.GetName(), 1)}, nil
}

func (greeter) ListGreetings(req *greeterpb.ListGreetingsRequest, stream grpc.ServerStreamingServer[greeterpb.ListGreetingsResponse]) error {
	for n := range int64(req.GetCount()) {
		if err := stream.Send(&greeterpb.ListGreetingsResponse{Greeting: greeting(req.GetName(), n+1)}); err != nil {
			return err
		}
	}
	return nil
}

func (greeter) RecordGreetings(stream grpc.ClientStreamingServer[greeterpb.RecordGreetingsRequest, greeterpb.RecordGreetingsResponse]) error {
	for n := int64(0); ; n++ {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&greeterpb.RecordGreetingsResponse{Count: n})
		}
		if err != nil {
			return err
		}
	}
}

// sink is a collector.
type sink struct {
	collectorpb.UnimplementedTraceServiceServer
}

func (sink) Export(context.Context, *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	return &collectorpb.ExportTraceServiceResponse{}, nil
}
