// Package product keeps the catalog: what the shop sells, and for how much.
//
// Every change of a product makes a new version of it and announces it, in one
// transaction. A version is made from the one before and from no other, so a
// change that was decided upon what is no longer so does not happen.
//
// A product that is deleted can't be seen any more, and keeps its sku: to give
// the sku to another thing would confuse those who have sold the first. An
// import brings a deleted product back, with its id.
package product

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/money"
)

// Product is something that the shop sells.
type Product struct {
	ID  string // a UUIDv7
	SKU string // unique, never changed
	Details
	Version int64 // from 1
	Deleted bool  // gone from the catalog
	Created time.Time
	Updated time.Time
}

// Details is what can change of a product. Details are comparable.
type Details struct {
	Name        string
	Description string
	Category    string
	Price       money.Amount
	Image       string // an emoji or an https address
}

// Draft is a product as it is asked for, in a request or a line of an import.
type Draft struct {
	SKU string
	Details
	Stock int32 // how many there are to sell at first
}

// Etag names the version of the product.
func (p *Product) Etag() string { return "v" + strconv.FormatInt(p.Version, 36) }

// next returns p as a version of its own, with other details.
func (p *Product) next(d Details, now time.Time) Product {
	n := *p
	n.Details, n.Updated = d, now
	n.Version++
	return n
}

// product returns the first version of what d asks for.
func (d Draft) product(now time.Time) (Product, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Product{}, fmt.Errorf("make id: %w", err)
	}
	return Product{ID: id.String(), SKU: d.SKU, Details: d.Details, Version: 1, Created: now, Updated: now}, nil
}

// check returns a fault that names all fields that are wrong beyond what the
// contract says of each alone.
func (d Draft) check() error {
	var sku []fault.Violation
	if d.SKU == "" {
		sku = required("sku")
	}
	return violated(sku, d.Details.violations())
}

func (d Details) check() error { return violated(d.violations()) }

func (d Details) violations() []fault.Violation {
	var vs []fault.Violation
	if strings.TrimSpace(d.Name) == "" {
		vs = append(vs, required("name")...)
	}
	if d.Category == "" {
		vs = append(vs, required("category")...)
	}
	if d.Price.Currency == "" {
		vs = append(vs, required("price")...)
	}
	if !printable(d.Name, "") {
		vs = append(vs, violation("name", "must not have control characters"))
	}
	if !printable(d.Description, "\t\r\n") {
		vs = append(vs, violation("description", "must not have control characters but tabs and line breaks"))
	}
	if !isPicture(d.Image) {
		vs = append(vs, violation("image", "must be an emoji or an https address"))
	}
	return vs
}

func required(field string) []fault.Violation {
	return []fault.Violation{violation(field, "is required")}
}

func violation(field, text string) fault.Violation {
	return fault.Violation{Field: "product." + field, Text: text}
}

func violated(lists ...[]fault.Violation) error {
	var all []fault.Violation
	for _, l := range lists {
		all = append(all, l...)
	}
	if all == nil {
		return nil
	}
	return fault.Violations(all...)
}

// printable reports whether s has no control characters but those allowed. One
// of them, zero, could not even be stored.
func printable(s, allowed string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune(allowed, r) })
}

// maxEmoji is how many code points one emoji may be made of: a family of four
// with skin tones has eleven.
const maxEmoji = 16

// isPicture reports whether an image can be shown: it is an emoji or an https
// address, or there is none. Anything else could be a script, to a browser.
func isPicture(s string) bool {
	if strings.HasPrefix(s, "https://") {
		u, err := url.Parse(s)
		return err == nil && u.Host != "" && !strings.ContainsAny(s, " \"'<>`\\") && printable(s, "")
	}
	letters := strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsSpace(r) || unicode.IsControl(r) })
	return !letters && !strings.ContainsAny(s, "<>\"'`\\/") && utf8.RuneCountInString(s) <= maxEmoji
}

func missing(id string) error {
	return fault.NotFound("there is no product %s", id).With("product_id", id)
}

func stale(p Product) error {
	return fault.Aborted("STALE_ETAG", "product %s has been changed since it was read: read it again", p.ID).With("etag", p.Etag())
}
