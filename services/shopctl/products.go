package shopctl

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/shopctl/importfile"
	"github.com/meshmart/meshmart/services/shopctl/price"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

func (c *cli) productsCommand() *cobra.Command {
	g := group("products", "look at the catalog, or change it (administrators)",
		c.productsListCommand(), c.productsGetCommand(), c.productsCreateCommand(), c.productsUpdateCommand(),
		c.productsDeleteCommand(), c.productsImportCommand(), c.productsWatchCommand())
	g.Aliases = []string{"product"}
	return g
}

func (c *cli) productsListCommand() *cobra.Command {
	var q query
	var category string
	cmd := &cobra.Command{
		Use: "list", Short: "list the catalog", Args: cobra.NoArgs,
		Example: `  shopctl products list --category kitchen --order-by 'price.units desc'
  shopctl products list --filter 'name:"mug" AND price.units < 20'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if category != "" {
				q.and("category = " + literal(category))
			}
			return q.pages(c, "products", func(token string, size int32) (page, error) {
				out := &productpb.ListProductsResponse{}
				in := &productpb.ListProductsRequest{PageSize: size, PageToken: token, Filter: q.filter, OrderBy: q.order}
				raw, err := c.shop.Call(cmd.Context(), productpb.ProductService_ListProducts_FullMethodName, in, out)
				return page{raw, out, len(out.GetProducts()), func() *table { return productTable(out.GetProducts()) }}, err
			})
		},
	}
	q.flags(cmd, `price.units < 50`, "price.units desc, name")
	cmd.Flags().StringVar(&category, "category", "", "of this category only")
	return cmd
}

func productTable(products []*productpb.Product) *table {
	t := &table{head: []string{"SKU", "NAME", "CATEGORY", ">PRICE", "ID"}, flexible: 1}
	for _, p := range products {
		t.add(p.GetSku(), p.GetName(), p.GetCategory(), price.Show(p.GetPrice()), p.GetId())
	}
	return t
}

func productDetails(p *productpb.Product) *table {
	t := details()
	t.field("id", p.GetId())
	t.field("sku", p.GetSku())
	t.field("name", p.GetName())
	t.field("description", p.GetDescription())
	t.field("category", p.GetCategory())
	t.field("price", price.Show(p.GetPrice()))
	t.field("image", p.GetImage())
	t.field("created", clock(p.GetCreateTime()))
	t.field("updated", clock(p.GetUpdateTime()))
	t.field("etag", p.GetEtag())
	return t
}

func (c *cli) productsGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get PRODUCT", Short: "show a product, by its sku or id", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, raw, err := c.product(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return productDetails(p) })
			return nil
		},
	}
}

// productFlags are the fields of a product that a person sets.
type productFlags struct{ name, description, category, image, price, currency string }

func (f *productFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "name", "", "what it is called")
	fs.StringVar(&f.description, "description", "", "what it is")
	fs.StringVar(&f.category, "category", "", `its category, such as "kitchen"`)
	fs.StringVar(&f.image, "image", "", "a picture: an emoji, or an https address")
	fs.StringVar(&f.price, "price", "", "what one costs, such as 12.50")
}

func (c *cli) productsCreateCommand() *cobra.Command {
	var f productFlags
	in := &productpb.CreateProductRequest{}
	cmd := &cobra.Command{
		Use: "create SKU", Short: "add a product", Args: cobra.ExactArgs(1),
		Example: "  shopctl products create KIT-900 --name 'Tall Mug' --category kitchen --price 12.50 --stock 40",
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := price.Parse(f.price, f.currency)
			if err != nil {
				return usagef("--price: %w", err)
			}
			in.Product = &productpb.Product{
				Sku: args[0], Name: f.name, Description: f.description, Category: f.category, Image: f.image, Price: amount,
			}
			out := &productpb.CreateProductResponse{}
			raw, err := c.shop.Call(cmd.Context(), productpb.ProductService_CreateProduct_FullMethodName, in, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return productDetails(out.GetProduct()) })
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.currency, "currency", "EUR", "of the price")
	cmd.Flags().Int32Var(&in.InitialStock, "stock", 0, "how many there are to sell at first")
	cmd.Flags().StringVar(&in.RequestId, "request-id", "", "a UUID: the command repeated with it takes effect once")
	return cmd
}

func (c *cli) productsUpdateCommand() *cobra.Command {
	var f productFlags
	var etag string
	cmd := &cobra.Command{
		Use: "update PRODUCT", Short: "change a product", Args: cobra.ExactArgs(1),
		Long: `Change the fields of a product that flags are given for. If somebody else changes
it at the same time, nothing is changed and the command fails.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, _, err := c.product(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if etag != "" {
				p.Etag = etag
			}
			mask, err := f.apply(cmd.Flags(), p)
			if err != nil {
				return err
			}
			out := &productpb.UpdateProductResponse{}
			in := &productpb.UpdateProductRequest{Product: p, UpdateMask: mask}
			raw, err := c.shop.Call(cmd.Context(), productpb.ProductService_UpdateProduct_FullMethodName, in, out)
			if err != nil {
				return err
			}
			c.out.reply(raw, func() *table { return productDetails(out.GetProduct()) })
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.currency, "currency", "", "of the price, if it is another than before")
	cmd.Flags().StringVar(&etag, "etag", "", "only if the product still has this etag")
	return cmd
}

// apply puts the flags that were given into p and returns which they are.
func (f *productFlags) apply(given *pflag.FlagSet, p *productpb.Product) (*fieldmaskpb.FieldMask, error) {
	mask := &fieldmaskpb.FieldMask{}
	for name, set := range map[string]func(){
		"name":        func() { p.Name = f.name },
		"description": func() { p.Description = f.description },
		"category":    func() { p.Category = f.category },
		"image":       func() { p.Image = f.image },
	} {
		if given.Changed(name) {
			set()
			mask.Paths = append(mask.Paths, name)
		}
	}
	switch {
	case given.Changed("price"):
		currency := f.currency
		if currency == "" {
			currency = p.GetPrice().GetCurrencyCode()
		}
		amount, err := price.Parse(f.price, currency)
		if err != nil {
			return nil, usagef("--price: %w", err)
		}
		p.Price = amount
		mask.Paths = append(mask.Paths, "price")
	case given.Changed("currency"):
		return nil, usagef("--currency needs a --price in it")
	}
	if len(mask.Paths) == 0 {
		return nil, usagef("nothing to change: give a flag such as --price")
	}
	slices.Sort(mask.Paths)
	return mask, nil
}

func (c *cli) productsDeleteCommand() *cobra.Command {
	var etag string
	cmd := &cobra.Command{
		Use: "delete PRODUCT", Short: "take a product out of the catalog", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.productID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			in := &productpb.DeleteProductRequest{Id: id, Etag: etag}
			raw, err := c.shop.Call(cmd.Context(), productpb.ProductService_DeleteProduct_FullMethodName, in, &productpb.DeleteProductResponse{})
			if err != nil {
				return err
			}
			if c.out.json {
				c.out.reply(raw, nil)
			}
			c.notice("deleted %s", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&etag, "etag", "", "only if the product still has this etag")
	return cmd
}

func (c *cli) productsImportCommand() *cobra.Command {
	var o importfile.Options
	cmd := &cobra.Command{
		Use: "import FILE", Short: `add and change many products, from a file or "-"`, Args: cobra.ExactArgs(1),
		Long: `Add and change products from a file, or from standard input with "-".

CSV: the first line names the columns, in any order: ` + strings.Join(importfile.Columns(), ", ") + `;
sku, name, category and price must be there. Prices are decimal: 12.50.
JSON lines: each an ImportProductsRequest of the contract, as
{"product": {"sku": ..., "price": {"currency_code": "EUR", "units": "12", "nanos": 500000000}}, "initial_stock": 10}.

Lines that are wrong are told with their numbers, the others are taken: exit code 3.
A file can be sent again: what is there already stays unchanged. The stock is that
of new products alone. With -o json the summary is the server's, with the file's
line numbers and with the lines that were not fit to be sent.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Format != "" && o.Format != "csv" && o.Format != "jsonl" {
				return usagef("--format is csv or jsonl, not %q", o.Format)
			}
			o.Name = args[0]
			return c.importFile(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Format, "format", "", `"csv" or "jsonl"; else as the file's name or its beginning tells`)
	cmd.Flags().StringVar(&o.Currency, "currency", "EUR", "of CSV lines that name none")
	return cmd
}

func (c *cli) productsWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch", Short: "follow the changes of the catalog, from now on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := c.unhurried(cmd.Context())
			defer cancel()
			e := &productpb.WatchProductsResponse{}
			return c.shop.Watch(ctx, productpb.ProductService_WatchProducts_FullMethodName, &productpb.WatchProductsRequest{}, e, func(raw []byte) error {
				c.showProductChange(raw, e)
				return nil
			})
		},
	}
}

func (c *cli) showProductChange(raw []byte, e *productpb.WatchProductsResponse) {
	if c.out.json {
		c.out.reply(raw, nil)
		return
	}
	p := e.GetProduct()
	what := strings.ToLower(strings.TrimPrefix(e.GetChange().String(), "CHANGE_"))
	c.out.say("%s  %-8s %-12s  %-12s  %s", clock(p.GetUpdateTime()), what, p.GetSku(), price.Show(p.GetPrice()), p.GetName())
}

// product returns a product by its sku or id.
func (c *cli) product(ctx context.Context, ref string) (*productpb.Product, []byte, error) {
	id, err := c.productID(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	out := &productpb.GetProductResponse{}
	raw, err := c.shop.Call(ctx, productpb.ProductService_GetProduct_FullMethodName, &productpb.GetProductRequest{Id: id}, out)
	return out.GetProduct(), raw, err
}

func (c *cli) productID(ctx context.Context, ref string) (string, error) {
	ids, err := c.productIDs(ctx, []string{ref})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

var sku = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) // as the contract says

// productIDs returns the ids of products given by sku or id, in their order.
func (c *cli) productIDs(ctx context.Context, refs []string) ([]string, error) {
	ids := map[string]string{}
	var conditions []string
	for _, ref := range refs {
		switch {
		case isUUID(ref):
			ids[ref] = ref
		case !sku.MatchString(ref):
			return nil, usagef("%q is neither the sku nor the id of a product", ref)
		default:
			conditions = append(conditions, "sku = "+literal(ref))
		}
	}
	for some := range slices.Chunk(conditions, 20) { // a filter has 2,000 characters at most
		out := &productpb.ListProductsResponse{}
		in := &productpb.ListProductsRequest{Filter: strings.Join(some, " OR ")}
		if _, err := c.shop.Call(ctx, productpb.ProductService_ListProducts_FullMethodName, in, out); err != nil {
			return nil, err
		}
		for _, p := range out.GetProducts() {
			ids[p.GetSku()] = p.GetId()
		}
	}
	found := make([]string, len(refs))
	for i, ref := range refs {
		if found[i] = ids[ref]; found[i] == "" {
			return nil, &rest.Problem{Code: codes.NotFound, Text: fmt.Sprintf("there is no product %s", ref)}
		}
	}
	return found, nil
}

func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }
