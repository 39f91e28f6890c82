package shop

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/app"
)

// settled returns when the inventory has heard of the newest product, or ctx is
// done. At the first start every service is ready some milliseconds before the
// stock of the catalog has travelled from one to the other, and a shop in which
// nothing can be bought is not open yet.
func settled(ctx context.Context, net app.Network) error {
	products, err := connect(net, "product")
	if err != nil {
		return err
	}
	defer products.Close()
	stock, err := connect(net, "inventory")
	if err != nil {
		return err
	}
	defer stock.Close()
	newest, err := productpb.NewProductServiceClient(products).ListProducts(ctx, &productpb.ListProductsRequest{PageSize: 1, OrderBy: "create_time desc"})
	if err != nil || len(newest.GetProducts()) == 0 {
		return err
	}
	req := &inventorypb.GetStockRequest{ProductId: newest.GetProducts()[0].GetId()}
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		_, err := inventorypb.NewInventoryServiceClient(stock).GetStock(ctx, req)
		if status.Code(err) != codes.NotFound {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func connect(net app.Network, name string) (*grpc.ClientConn, error) {
	target, opts := net.Target(name)
	return grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}
