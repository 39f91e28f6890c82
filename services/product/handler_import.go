package product

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/rpc"
)

// importStream is the server's side of ImportProducts.
type importStream = grpc.ClientStreamingServer[productpb.ImportProductsRequest, productpb.ImportProductsResponse]

func (h *handler) ImportProducts(ss importStream) error {
	ctx := ss.Context()
	in := h.catalog.Import()
	for {
		req, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		d, err := line(req)
		if err := in.Add(ctx, d, err); err != nil {
			return err
		}
	}
	sum, err := in.Close(ctx)
	if err != nil {
		return err
	}
	if sum.Unchanged > 0 && sum.Created+sum.Updated == 0 {
		idem.Replayed(ctx)
	}
	return ss.SendAndClose(sum.proto())
}

// line reads a line of an import, with the checks of CreateProduct. The draft
// has the sku even if there is an error.
func line(req *productpb.ImportProductsRequest) (Draft, error) {
	if req.GetProduct() == nil {
		return Draft{}, fault.Invalid("product", "is required")
	}
	d, err := draft(req.GetProduct(), req.GetInitialStock())
	if err != nil || d.check() != nil {
		return d, err // what the check finds is told by Import.Add, by field
	}
	return d, rpc.Validate(&productpb.CreateProductRequest{Product: req.GetProduct(), InitialStock: req.GetInitialStock()})
}

func (s Summary) proto() *productpb.ImportProductsResponse {
	r := &productpb.ImportProductsResponse{
		Received: s.Received, Created: s.Created, Updated: s.Updated, Unchanged: s.Unchanged, Rejected: s.Rejected,
	}
	for _, one := range s.Rejections {
		r.Rejections = append(r.Rejections, &productpb.ImportRejection{
			Line: one.Line, Sku: one.SKU, Field: one.Field, Reason: one.Reason,
		})
	}
	return r
}

// readLines adds JSON lines to an import: each is an ImportProductsRequest as
// protobuf has it in JSON. Empty lines are skipped.
func readLines(ctx context.Context, from io.Reader, in *Import) error {
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read lines: %w", err)
		}
		atEnd := err != nil
		text = bytes.TrimSpace(text)
		switch {
		case len(text) > 0:
			d, err := lineOf(text)
			if err := in.Add(ctx, d, err); err != nil {
				return err
			}
		case !atEnd:
			in.Skip()
		}
		if atEnd {
			return nil
		}
	}
}

func lineOf(text []byte) (Draft, error) {
	req := &productpb.ImportProductsRequest{}
	if err := protojson.Unmarshal(text, req); err != nil {
		// The library puts a space of either kind after "proto:", on purpose.
		reason := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return Draft{}, fault.Malformed("is no product in JSON: %s", reason)
	}
	return line(req)
}
