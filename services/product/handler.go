package product

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/batch"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/list"
	"github.com/meshmart/meshmart/services/internal/money"
)

// handler speaks product.v1. What changes something goes to the catalog, what
// only reads goes to the store.
type handler struct {
	productpb.UnsafeProductServiceServer

	catalog  *Catalog
	store    *store
	reads    *batch.Reader[string, Product] // from the store, for many callers at once
	watcher  *watcher
	listed   *list.Spec
	draining <-chan struct{}
	watchers chan struct{} // holds one for each that watches
}

func (h *handler) CreateProduct(ctx context.Context, req *productpb.CreateProductRequest) (*productpb.CreateProductResponse, error) {
	d, err := draft(req.GetProduct(), req.GetInitialStock())
	if err != nil {
		return nil, err
	}
	p, err := h.catalog.Create(ctx, idem.KeyOf(ctx, req), d)
	if err != nil {
		return nil, err
	}
	return &productpb.CreateProductResponse{Product: toProto(p)}, nil
}

func (h *handler) GetProduct(ctx context.Context, req *productpb.GetProductRequest) (*productpb.GetProductResponse, error) {
	id := canonical(req.GetId())
	p, ok, err := h.reads.Get(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, missing(id)
	}
	return &productpb.GetProductResponse{Product: toProto(p)}, nil
}

func (h *handler) BatchGetProducts(ctx context.Context, req *productpb.BatchGetProductsRequest) (*productpb.BatchGetProductsResponse, error) {
	ids := make([]string, len(req.GetIds()))
	for i, id := range req.GetIds() {
		ids[i] = canonical(id)
	}
	ps, err := h.store.batch(ctx, ids)
	if err != nil {
		return nil, err
	}
	return &productpb.BatchGetProductsResponse{Products: toProtos(ps)}, nil
}

func (h *handler) UpdateProduct(ctx context.Context, req *productpb.UpdateProductRequest) (*productpb.UpdateProductResponse, error) {
	change, err := patch(req.GetProduct(), req.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	p, err := h.catalog.Update(ctx, idem.KeyOf(ctx, req), canonical(req.GetProduct().GetId()), change)
	if err != nil {
		return nil, err
	}
	return &productpb.UpdateProductResponse{Product: toProto(p)}, nil
}

func (h *handler) DeleteProduct(ctx context.Context, req *productpb.DeleteProductRequest) (*productpb.DeleteProductResponse, error) {
	if err := h.catalog.Delete(ctx, canonical(req.GetId()), req.GetEtag()); err != nil {
		return nil, err
	}
	return &productpb.DeleteProductResponse{}, nil
}

func (h *handler) ListProducts(ctx context.Context, req *productpb.ListProductsRequest) (*productpb.ListProductsResponse, error) {
	q, err := h.listed.Parse(req)
	if err != nil {
		return nil, err
	}
	ps, next, total, err := h.store.page(ctx, q)
	if err != nil {
		return nil, err
	}
	return &productpb.ListProductsResponse{Products: toProtos(ps), NextPageToken: next, TotalSize: int32(total)}, nil
}

// canonical returns a UUID as it is stored.
func canonical(id string) string { return strings.ToLower(id) }

// draft reads what a request asks for. Its faults name fields of "product".
func draft(p *productpb.Product, stock int32) (Draft, error) {
	price, err := money.FromProto("product.price", p.GetPrice())
	if err != nil {
		return Draft{SKU: p.GetSku()}, err
	}
	return Draft{
		SKU: p.GetSku(),
		Details: Details{
			Name: p.GetName(), Description: p.GetDescription(), Category: p.GetCategory(),
			Price: price, Image: p.GetImage(),
		},
		Stock: stock,
	}, nil
}

func toProto(p Product) *productpb.Product {
	return &productpb.Product{
		Id: p.ID, Sku: p.SKU,
		Name: p.Name, Description: p.Description, Category: p.Category, Price: p.Price.Proto(), Image: p.Image,
		CreateTime: timestamppb.New(p.Created), UpdateTime: timestamppb.New(p.Updated), Etag: p.Etag(),
	}
}

func toProtos(ps []Product) []*productpb.Product {
	all := make([]*productpb.Product, len(ps))
	for i, p := range ps {
		all[i] = toProto(p)
	}
	return all
}
