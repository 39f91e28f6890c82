package gateway

import (
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
}

// routed are all of them. A new service with routes is added here.
func routed() []routedService {
	return []routedService{
		{"product", productpb.File_product_v1_product_proto},
		{"user", userpb.File_user_v1_user_proto},
		{"inventory", inventorypb.File_inventory_v1_inventory_proto},
		{"order", orderpb.File_order_v1_order_proto},
		{"payment", paymentpb.File_payment_v1_payment_proto},
		{"greeter", greeterpb.File_greeter_v1_greeter_proto},
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
