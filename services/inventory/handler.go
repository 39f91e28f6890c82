package inventory

import (
	"context"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// handler speaks inventory.v1. It converts and delegates: what changes
// something goes to the Inventory, what only reads goes to the store.
type handler struct {
	inventorypb.UnsafeInventoryServiceServer // a missing method must not compile

	inv      *Inventory
	store    *store
	draining <-chan struct{} // closed when streams must end
}

func (h *handler) GetStock(ctx context.Context, req *inventorypb.GetStockRequest) (*inventorypb.GetStockResponse, error) {
	s, err := h.store.stock(ctx, id(req.GetProductId()))
	if err != nil {
		return nil, err
	}
	return &inventorypb.GetStockResponse{Stock: s.proto()}, nil
}

func (h *handler) BatchGetStock(ctx context.Context, req *inventorypb.BatchGetStockRequest) (*inventorypb.BatchGetStockResponse, error) {
	ids := make([]string, len(req.GetProductIds()))
	for i, p := range req.GetProductIds() {
		ids[i] = id(p)
	}
	all, err := h.store.stocks(ctx, ids)
	if err != nil {
		return nil, err
	}
	reply := &inventorypb.BatchGetStockResponse{}
	for _, s := range all {
		reply.Stocks = append(reply.Stocks, s.proto())
	}
	return reply, nil
}

func (h *handler) SetStock(ctx context.Context, req *inventorypb.SetStockRequest) (*inventorypb.SetStockResponse, error) {
	s, err := h.inv.Set(ctx, SetRequest{
		ProductID: id(req.GetProductId()),
		Available: int64(req.GetAvailable()),
		ETag:      req.GetEtag(),
		Key:       idem.KeyOf(ctx, req),
	})
	if err != nil {
		return nil, err
	}
	return &inventorypb.SetStockResponse{Stock: s.proto()}, nil
}

func (h *handler) AdjustStock(ctx context.Context, req *inventorypb.AdjustStockRequest) (*inventorypb.AdjustStockResponse, error) {
	s, err := h.inv.Adjust(ctx, AdjustRequest{
		ProductID: id(req.GetProductId()),
		Delta:     int64(req.GetDelta()),
		Key:       idem.KeyOf(ctx, req),
	})
	if err != nil {
		return nil, err
	}
	return &inventorypb.AdjustStockResponse{Stock: s.proto()}, nil
}

func (h *handler) Reserve(ctx context.Context, req *inventorypb.ReserveRequest) (*inventorypb.ReserveResponse, error) {
	items := make([]Item, len(req.GetItems()))
	for i, it := range req.GetItems() {
		items[i] = Item{ProductID: id(it.GetProductId()), Quantity: int64(it.GetQuantity())}
	}
	if err := h.inv.Reserve(ctx, id(req.GetOrderId()), items); err != nil {
		return nil, err
	}
	return &inventorypb.ReserveResponse{}, nil
}

func (h *handler) Release(ctx context.Context, req *inventorypb.ReleaseRequest) (*inventorypb.ReleaseResponse, error) {
	if err := h.inv.Release(ctx, id(req.GetOrderId())); err != nil {
		return nil, err
	}
	return &inventorypb.ReleaseResponse{}, nil
}

func (h *handler) Commit(ctx context.Context, req *inventorypb.CommitRequest) (*inventorypb.CommitResponse, error) {
	if err := h.inv.Commit(ctx, id(req.GetOrderId())); err != nil {
		return nil, err
	}
	return &inventorypb.CommitResponse{}, nil
}

// id returns a UUID as it is stored; it may come in capitals (RFC 9562).
func id(s string) string { return strings.ToLower(s) }

func (s Stock) proto() *inventorypb.Stock {
	return &inventorypb.Stock{
		ProductId:  s.ProductID,
		Available:  int32(s.Available), // all are at most maxStocked
		Reserved:   int32(s.Reserved),
		Sold:       int32(s.Sold),
		Stocked:    int32(s.Stocked),
		CreateTime: timestamppb.New(s.Created),
		UpdateTime: timestamppb.New(s.Updated),
		Etag:       strconv.FormatInt(s.Version, 10),
	}
}
