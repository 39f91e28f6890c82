package product

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// mutable returns the fields that an update can change.
func mutable() []string { return []string{"name", "description", "category", "price", "image"} }

// patch returns what an update changes (AIP-134). Without a mask that is what
// p has; with "*" it is all that can change, and the mask's fields otherwise.
//
// What never changes may be in p but not in the mask; the etag may be in both,
// as REST clients name all that they send.
func patch(p *productpb.Product, mask []string) (Patch, error) {
	change := Patch{Etag: p.GetEtag()}
	fields, whole := mask, false
	switch {
	case len(mask) == 0:
		fields, whole = populated(p), true
	case slices.Equal(mask, []string{"*"}):
		fields, whole = mutable(), true
	}
	if whole {
		change.SKU = p.GetSku()
	}
	for _, path := range fields {
		if err := change.take(path, p); err != nil {
			return Patch{}, err
		}
	}
	return change, nil
}

// populated returns those fields of p that can change and are set.
func populated(p *productpb.Product) []string {
	m := p.ProtoReflect()
	return slices.DeleteFunc(mutable(), func(field string) bool {
		return !m.Has(m.Descriptor().Fields().ByName(protoreflect.Name(field)))
	})
}

// take has the patch change one field to what it is in p.
func (c *Patch) take(path string, p *productpb.Product) error {
	switch path {
	case "name":
		c.Name = &p.Name
	case "description":
		c.Description = &p.Description
	case "category":
		c.Category = &p.Category
	case "image":
		c.Image = &p.Image
	case "price", "price.currency_code", "price.units", "price.nanos":
		// A price is one value. Who sends 5 units without the nanos, which are
		// left out when they are 0, must not get those of the old price.
		price, err := money.FromProto("product.price", p.GetPrice())
		c.Price = &price
		return err
	case "etag":
	default:
		return notMutable(path, p)
	}
	return nil
}

func notMutable(path string, p *productpb.Product) error {
	name, _, nested := strings.Cut(path, ".")
	can := strings.Join(mutable(), ", ")
	switch {
	case path == "*":
		return fault.Invalid("update_mask", `"*" must be the only path`)
	case nested || p.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name)) == nil:
		return fault.Invalid("update_mask", "%q is no field of a product; what can change is: %s", path, can)
	}
	return fault.Invalid("update_mask", "%q can't be changed; what can is: %s", path, can)
}
