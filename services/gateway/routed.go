package gateway

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	paymentpb "github.com/meshmart/meshmart/proto/payment/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

// routedService is a service whose contract has public routes.
type routedService struct {
	name     string
	contract protoreflect.FileDescriptor
	serve    []registrar // one for each gRPC service of the contract
}

// routed are all of them. A new service with routes is added here.
func routed() []routedService {
	return []routedService{
		{"product", productpb.File_product_v1_product_proto, []registrar{with(productpb.RegisterProductServiceHandlerClient, productpb.NewProductServiceClient)}},
		{"user", userpb.File_user_v1_user_proto, []registrar{
			with(userpb.RegisterUserServiceHandlerClient, userpb.NewUserServiceClient),
			with(userpb.RegisterAuthServiceHandlerClient, userpb.NewAuthServiceClient),
		}},
		{"inventory", inventorypb.File_inventory_v1_inventory_proto, []registrar{with(inventorypb.RegisterInventoryServiceHandlerClient, inventorypb.NewInventoryServiceClient)}},
		{"order", orderpb.File_order_v1_order_proto, []registrar{with(orderpb.RegisterOrderServiceHandlerClient, orderpb.NewOrderServiceClient)}},
		{"payment", paymentpb.File_payment_v1_payment_proto, []registrar{with(paymentpb.RegisterPaymentServiceHandlerClient, paymentpb.NewPaymentServiceClient)}},
		{"greeter", greeterpb.File_greeter_v1_greeter_proto, []registrar{with(greeterpb.RegisterGreetingServiceHandlerClient, greeterpb.NewGreetingServiceClient)}},
	}
}

// calls are the names of the services with routes.
func calls() []string {
	var names []string
	for _, s := range routed() {
		names = append(names, s.name)
	}
	return names
}

// contracts are the files whose RPCs have public routes.
func contracts() []protoreflect.FileDescriptor {
	var files []protoreflect.FileDescriptor
	for _, s := range routed() {
		files = append(files, s.contract)
	}
	return files
}

// registrar hands the unary RPCs of a gRPC service to grpc-gateway, which calls
// them through the connection.
type registrar func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error

// with makes one of what is generated for the gRPC service.
func with[C any](register func(context.Context, *runtime.ServeMux, C) error, client func(grpc.ClientConnInterface) C) registrar {
	return func(ctx context.Context, mux *runtime.ServeMux, cc grpc.ClientConnInterface) error {
		return register(ctx, mux, client(cc))
	}
}
