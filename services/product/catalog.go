package product

import (
	"context"
	"time"

	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/money"
)

// rounds is how often a change that does not depend on the version is tried
// again when somebody else was faster.
const rounds = 10

// Catalog is all that changes products.
type Catalog struct {
	store  *store
	events *announcer
	clock  func() time.Time
}

// now is the time in the precision in which it is stored.
func (c *Catalog) now() time.Time { return c.clock().UTC().Truncate(time.Microsecond) }

// Create adds a product, once for each key.
func (c *Catalog) Create(ctx context.Context, key idem.Key, d Draft) (Product, error) {
	if err := d.check(); err != nil {
		return Product{}, err
	}
	return once(ctx, c.store, key, func(tx *store) (Product, error) {
		p, err := d.product(c.now())
		if err != nil {
			return Product{}, err
		}
		fresh, err := tx.insert(ctx, p)
		if err != nil {
			return Product{}, err
		}
		if !fresh {
			return Product{}, fault.Exists("SKU_TAKEN", "the sku %s is taken, perhaps by a product that was deleted", p.SKU).With("sku", p.SKU)
		}
		return p, c.events.created(ctx, tx, p, d.Stock)
	})
}

// Patch says what to change of a product; what is nil stays.
type Patch struct {
	SKU  string // if not empty, what the sku must be: it never changes
	Etag string // if not empty, what the etag must still be

	Name, Description, Category, Image *string
	Price                              *money.Amount
}

// apply returns d with the changes.
func (p Patch) apply(d Details) Details {
	set(&d.Name, p.Name)
	set(&d.Description, p.Description)
	set(&d.Category, p.Category)
	set(&d.Image, p.Image)
	set(&d.Price, p.Price)
	return d
}

func set[T any](to, value *T) {
	if value != nil {
		*to = *value
	}
}

// Update changes a product, once for each key. A change that leaves all as it
// is makes no new version.
func (c *Catalog) Update(ctx context.Context, key idem.Key, id string, change Patch) (Product, error) {
	return once(ctx, c.store, key, func(tx *store) (p Product, err error) {
		err = c.change(ctx, tx, id, change.Etag, func(old Product) (done bool, err error) {
			p, done, err = c.update(ctx, tx, old, change)
			return done, err
		})
		return p, err
	})
}

func (c *Catalog) update(ctx context.Context, tx *store, old Product, change Patch) (Product, bool, error) {
	if old.Deleted {
		return Product{}, false, missing(old.ID)
	}
	if change.SKU != "" && change.SKU != old.SKU {
		return Product{}, false, fault.Invalid("product.sku", "never changes; it is %s", old.SKU)
	}
	details := change.apply(old.Details)
	if err := details.check(); err != nil {
		return Product{}, false, err
	}
	if details == old.Details {
		return old, true, nil
	}
	p := old.next(details, c.now())
	done, err := tx.replace(ctx, p)
	if err != nil || !done {
		return Product{}, false, err
	}
	return p, true, c.events.updated(ctx, tx, p)
}

// Delete takes a product out of the catalog, if it has the etag or none is
// given. It does nothing to one that is out already.
func (c *Catalog) Delete(ctx context.Context, id, etag string) error {
	return c.store.inTx(ctx, func(tx *store) error {
		return c.change(ctx, tx, id, etag, func(old Product) (bool, error) {
			if old.Deleted {
				idem.Replayed(ctx)
				return true, nil
			}
			p := old.next(old.Details, c.now())
			p.Deleted = true
			done, err := tx.replace(ctx, p)
			if err != nil || !done {
				return false, err
			}
			return true, c.events.deleted(ctx, tx, old)
		})
	})
}

// change calls fn with the product as it is, and again if fn reports that
// somebody else has made the next version of it meanwhile. With an etag that
// can only mean that it is stale.
func (c *Catalog) change(ctx context.Context, tx *store, id, etag string, fn func(old Product) (bool, error)) error {
	for range rounds {
		old, err := tx.find(ctx, id)
		if err != nil {
			return err
		}
		if etag != "" && etag != old.Etag() && !old.Deleted {
			return stale(old)
		}
		if done, err := fn(old); done || err != nil {
			return err
		}
	}
	return contended(id)
}

func contended(what string) error {
	return fault.Aborted("CONTENDED", "product %s is being changed by too many at once: try again", what)
}
