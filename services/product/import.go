package product

import (
	"context"
	"strings"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	// batchSize is how many lines of an import share a transaction. It bounds
	// the memory of an import, too.
	batchSize = 200
	// maxTold is how many rejections a summary has, however many there were.
	maxTold = 100
	// maxQuoted is how much of a wrong sku a rejection repeats, in bytes.
	maxQuoted = 64
)

// Summary says what an import did.
type Summary struct {
	Received, Created, Updated, Unchanged, Rejected int64
	Rejections                                      []Rejection // the first of them
}

// Rejection says why a line was not taken.
type Rejection struct {
	Line               int64 // from 1
	SKU, Field, Reason string
}

// outcome is what a line did.
type outcome int

const (
	lost outcome = iota // nothing: somebody else was faster
	created
	updated
	unchanged
)

// Import brings products into the catalog, line by line. Whole batches take
// effect, so what a broken import leaves is a beginning of it, and the same
// lines can be imported again. It is for one goroutine.
type Import struct {
	catalog *Catalog
	line    int64 // the last one's number
	batch   []Draft
	sum     Summary
}

// Import returns an import that has no lines yet.
func (c *Catalog) Import() *Import { return &Import{catalog: c, batch: make([]Draft, 0, batchSize)} }

// Skip counts a line that holds nothing.
func (i *Import) Skip() { i.line++ }

// Add takes a line: what it asks for, or a fault that says why it can't be
// read, which is noted. Any other error ends the import.
func (i *Import) Add(ctx context.Context, d Draft, err error) error {
	i.line++
	i.sum.Received++
	if err == nil {
		err = d.check()
	}
	if f := fault.As(err); f != nil {
		i.reject(d.SKU, f)
		return nil
	}
	if err != nil {
		return err
	}
	i.batch = append(i.batch, d)
	if len(i.batch) < batchSize {
		return nil
	}
	return i.flush(ctx)
}

func (i *Import) reject(sku string, f *fault.Error) {
	i.sum.Rejected++
	if len(i.sum.Rejections) == maxTold {
		return
	}
	r := Rejection{Line: i.line, SKU: clip(sku), Reason: f.Error()}
	if vs := f.Fields(); len(vs) > 0 {
		r.Field, r.Reason = strings.TrimPrefix(vs[0].Field, "product."), vs[0].Text
	}
	i.sum.Rejections = append(i.sum.Rejections, r)
}

func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "..."
}

// Close takes what is left and returns the summary.
func (i *Import) Close(ctx context.Context) (Summary, error) {
	err := i.flush(ctx)
	return i.sum, err
}

// flush makes the batch take effect.
func (i *Import) flush(ctx context.Context) error {
	var n map[outcome]int64
	err := i.catalog.store.inTx(ctx, func(tx *store) (err error) {
		n, err = i.catalog.take(ctx, tx, i.batch)
		return err
	})
	if err != nil {
		return err
	}
	i.sum.Created += n[created]
	i.sum.Updated += n[updated]
	i.sum.Unchanged += n[unchanged]
	i.batch = i.batch[:0]
	return nil
}

// take writes the drafts, in their order: of two with the same sku the later
// one changes what the first one made.
func (c *Catalog) take(ctx context.Context, tx *store, drafts []Draft) (map[outcome]int64, error) {
	n := map[outcome]int64{}
	if len(drafts) == 0 {
		return n, nil
	}
	skus := make([]string, len(drafts))
	for i, d := range drafts {
		skus[i] = d.SKU
	}
	known, err := tx.bySKU(ctx, skus...)
	if err != nil {
		return nil, err
	}
	for _, d := range drafts {
		o, err := c.put(ctx, tx, known, d)
		if err != nil {
			return nil, err
		}
		n[o]++
	}
	return n, nil
}

// put writes one draft upon what is known of the products, and keeps that true.
func (c *Catalog) put(ctx context.Context, tx *store, known map[string]Product, d Draft) (outcome, error) {
	for range rounds {
		p, o, err := c.write(ctx, tx, known, d)
		if err != nil {
			return lost, err
		}
		if o != lost {
			known[d.SKU] = p
			return o, nil
		}
		now, err := tx.bySKU(ctx, d.SKU)
		if err != nil {
			return lost, err
		}
		known[d.SKU] = now[d.SKU]
	}
	return lost, contended(d.SKU)
}

func (c *Catalog) write(ctx context.Context, tx *store, known map[string]Product, d Draft) (Product, outcome, error) {
	old, ok := known[d.SKU]
	switch {
	case !ok:
		p, err := d.product(c.now())
		if err != nil {
			return Product{}, lost, err
		}
		done, err := tx.insert(ctx, p)
		if err != nil || !done {
			return Product{}, lost, err
		}
		return p, created, c.events.created(ctx, tx, p, d.Stock)
	case !old.Deleted && old.Details == d.Details:
		return old, unchanged, nil
	}
	p := old.next(d.Details, c.now())
	p.Deleted = false
	done, err := tx.replace(ctx, p)
	if err != nil || !done {
		return Product{}, lost, err
	}
	if old.Deleted { // it is back, as the same product
		return p, created, c.events.created(ctx, tx, p, d.Stock)
	}
	return p, updated, c.events.updated(ctx, tx, p)
}

// Seed imports what read adds, all or nothing, if the catalog has never had a
// product and nobody else, such as another replica, does it. The summary is
// nil if that is not so. read may be called again from the start.
func (c *Catalog) Seed(ctx context.Context, read func(ctx context.Context, in *Import) error) (sum *Summary, err error) {
	err = c.store.inTx(ctx, func(tx *store) error {
		sum = nil
		first, err := tx.claimSeed(ctx, c.now())
		if err != nil || !first {
			return err
		}
		inside := *c
		inside.store = tx
		in := inside.Import()
		if err := read(ctx, in); err != nil {
			return err
		}
		s, err := in.Close(ctx)
		sum = &s
		return err
	})
	return sum, err
}
