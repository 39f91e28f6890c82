package shop

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app"
)

// slowCatalog answers in time only when it was asked often enough.
type slowCatalog struct {
	productpb.UnimplementedProductServiceServer
	failures []codes.Code
}

func (s *slowCatalog) ListProducts(context.Context, *productpb.ListProductsRequest) (*productpb.ListProductsResponse, error) {
	if len(s.failures) == 0 {
		return &productpb.ListProductsResponse{}, nil
	}
	code := s.failures[0]
	s.failures = s.failures[1:]
	return nil, status.Error(code, "test")
}

func TestOutageAtTheFirstLookDoesNotEndTheShop(t *testing.T) {
	for _, tt := range []struct {
		failures []codes.Code
		want     codes.Code
	}{
		{[]codes.Code{codes.DeadlineExceeded, codes.Unavailable}, codes.OK},
		{[]codes.Code{codes.Internal}, codes.Internal},
	} {
		network := &app.Memory{}
		l, err := network.Listen("product")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		productpb.RegisterProductServiceServer(s, &slowCatalog{failures: tt.failures})
		inventorypb.RegisterInventoryServiceServer(s, inventorypb.UnimplementedInventoryServiceServer{})
		go s.Serve(l)
		if got := status.Code(settled(t.Context(), network)); got != tt.want {
			t.Errorf("after %v: %v, want %v", tt.failures, got, tt.want)
		}
		s.Stop()
	}
}
