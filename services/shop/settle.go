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
	catalog, inventory := productpb.NewProductServiceClient(products), inventorypb.NewInventoryServiceClient(stock)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := look(ctx, catalog, inventory)
		switch status.Code(err) {
		case codes.NotFound: // it has not heard yet
		case codes.Unavailable, codes.DeadlineExceeded: // a busy machine must not end the shop
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// look asks for the stock of the newest product, if there is one.
func look(ctx context.Context, catalog productpb.ProductServiceClient, stock inventorypb.InventoryServiceClient) error {
	newest, err := catalog.ListProducts(ctx, &productpb.ListProductsRequest{PageSize: 1, OrderBy: "create_time desc"})
	if err != nil || len(newest.GetProducts()) == 0 {
		return err
	}
	_, err = stock.GetStock(ctx, &inventorypb.GetStockRequest{ProductId: newest.GetProducts()[0].GetId()})
	return err
}

func connect(net app.Network, name string) (*grpc.ClientConn, error) {
	target, opts := net.Target(name)
	return grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}
