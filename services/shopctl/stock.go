package shopctl

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
)

func (c *cli) stockCommand() *cobra.Command {
	return group("stock", "see how much there is, or change it (administrators)",
		c.stockGetCommand(), c.stockSetCommand(), c.stockAdjustCommand())
}

// stockTable shows stocks under the names that the products were asked for by.
func stockTable(names []string, stocks []*inventorypb.Stock) *table {
	t := &table{head: []string{"PRODUCT", ">AVAILABLE", ">RESERVED", ">SOLD", ">STOCKED", "UPDATED"}}
	for i, s := range stocks {
		name := s.GetProductId()
		if i < len(names) {
			name = names[i]
		}
		t.add(name, s.GetAvailable(), s.GetReserved(), s.GetSold(), s.GetStocked(), clock(s.GetUpdateTime()))
	}
	return t
}

func (c *cli) stockGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get PRODUCT...", Short: "show the stock of products, by sku or id", Args: cobra.RangeArgs(1, 100),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := c.productIDs(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(ids) == 1 {
				out := &inventorypb.GetStockResponse{}
				raw, err := c.shop.Call(cmd.Context(), inventorypb.InventoryService_GetStock_FullMethodName, &inventorypb.GetStockRequest{ProductId: ids[0]}, out)
				return c.showStock(raw, args, out.GetStock(), err)
			}
			out := &inventorypb.BatchGetStockResponse{}
			raw, err := c.shop.Call(cmd.Context(), inventorypb.InventoryService_BatchGetStock_FullMethodName, &inventorypb.BatchGetStockRequest{ProductIds: ids}, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return stockTable(args, out.GetStocks()) })
			return nil
		},
	}
}

func (c *cli) showStock(raw []byte, names []string, s *inventorypb.Stock, err error) error {
	if err != nil {
		return err
	}
	c.out.reply(raw, func() *table { return stockTable(names[:1], []*inventorypb.Stock{s}) })
	return nil
}

func (c *cli) stockSetCommand() *cobra.Command {
	in := &inventorypb.SetStockRequest{}
	cmd := &cobra.Command{
		Use: "set PRODUCT AVAILABLE", Short: "set how many are available", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := quantity(args[1])
			if err != nil {
				return err
			}
			if in.ProductId, err = c.productID(cmd.Context(), args[0]); err != nil {
				return err
			}
			in.Available = &n
			out := &inventorypb.SetStockResponse{}
			raw, err := c.shop.Call(cmd.Context(), inventorypb.InventoryService_SetStock_FullMethodName, in, out)
			return c.showStock(raw, args, out.GetStock(), err)
		},
	}
	cmd.Flags().StringVar(&in.Etag, "etag", "", "only if the stock still has this etag")
	cmd.Flags().StringVar(&in.RequestId, "request-id", "", "a UUID: the command repeated with it takes effect once")
	return cmd
}

func (c *cli) stockAdjustCommand() *cobra.Command {
	in := &inventorypb.AdjustStockRequest{}
	cmd := &cobra.Command{
		Use: "adjust PRODUCT BY", Short: "add to what is available, or take from it", Args: cobra.ExactArgs(2),
		Example: "  shopctl stock adjust KIT-001 +20\n  shopctl stock adjust KIT-001 -3",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := quantity(args[1])
			if err != nil {
				return err
			}
			if in.ProductId, err = c.productID(cmd.Context(), args[0]); err != nil {
				return err
			}
			in.Delta = n
			out := &inventorypb.AdjustStockResponse{}
			raw, err := c.shop.Call(cmd.Context(), inventorypb.InventoryService_AdjustStock_FullMethodName, in, out)
			return c.showStock(raw, args, out.GetStock(), err)
		},
	}
	cmd.Flags().StringVar(&in.RequestId, "request-id", "", "a UUID: the command repeated with it takes effect once")
	return cmd
}

// quantity reads a whole number, also as understood has left it.
func quantity(text string) (int32, error) {
	n, err := strconv.ParseInt(strings.Replace(text, "+-", "-", 1), 10, 32)
	if err != nil {
		return 0, usagef("%q is not a whole number", text)
	}
	return int32(n), nil
}
