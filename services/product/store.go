package product

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/list"
)

// store keeps the products, on its own or inside a transaction.
type store struct {
	db *db.DB
}

func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.db.InTx(ctx, func(tx *db.DB) error { return fn(&store{tx}) })
}

// once runs fn in a transaction, unless it has already been for this key: then
// it returns what fn returned there.
func once[T any](ctx context.Context, s *store, key idem.Key, fn func(tx *store) (T, error)) (T, error) {
	return idem.Do(ctx, s.db, key, func(tx *db.DB) (T, error) { return fn(&store{tx}) })
}

// columns are what scan reads.
const columns = `id, sku, name, description, category, price_currency, price_micros, image,
	version, create_time, update_time, delete_time IS NOT NULL`

func scan(row list.Row) (Product, error) {
	var p Product
	var created, updated int64
	err := row.Scan(&p.ID, &p.SKU, &p.Name, &p.Description, &p.Category, &p.Price.Currency, &p.Price.Micros, &p.Image,
		&p.Version, &created, &updated, &p.Deleted)
	p.Created, p.Updated = db.Time(created), db.Time(updated)
	return p, err
}

// find returns a product, be it deleted; a fault (NOT_FOUND) if there never
// was one.
func (s *store) find(ctx context.Context, id string) (Product, error) {
	p, err := scan(s.db.Row(ctx, `SELECT `+columns+` FROM products WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Product{}, missing(id)
	}
	if err != nil {
		return Product{}, fmt.Errorf("product %s: %w", id, err)
	}
	return p, nil
}

// byID returns those products that are in the catalog.
func (s *store) byID(ctx context.Context, ids []string) (map[string]Product, error) {
	found := make(map[string]Product, len(ids))
	err := s.each(ctx, "id", ids, func(p Product) {
		if !p.Deleted {
			found[p.ID] = p
		}
	})
	if err != nil {
		return nil, fmt.Errorf("products by id: %w", err)
	}
	return found, nil
}

// batch returns products that are in the catalog, in the order of their ids;
// a fault (NOT_FOUND) names the first that is not.
func (s *store) batch(ctx context.Context, ids []string) ([]Product, error) {
	found, err := s.byID(ctx, ids)
	if err != nil {
		return nil, err
	}
	ps := make([]Product, 0, len(ids))
	for _, id := range ids {
		p, ok := found[id]
		if !ok {
			return nil, missing(id)
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// bySKU returns those products that there are, deleted ones too.
func (s *store) bySKU(ctx context.Context, skus ...string) (map[string]Product, error) {
	found := make(map[string]Product, len(skus))
	if err := s.each(ctx, "sku", skus, func(p Product) { found[p.SKU] = p }); err != nil {
		return nil, fmt.Errorf("products by sku: %w", err)
	}
	return found, nil
}

// each calls fn with the products that have one of the values, of which there
// are a few hundred at most.
func (s *store) each(ctx context.Context, column string, values []string, fn func(Product)) error {
	if len(values) == 0 {
		return nil
	}
	places, args := db.In(values)
	rows, err := s.db.Query(ctx, `SELECT `+columns+` FROM products WHERE `+column+` IN (`+places+`)`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		p, err := scan(rows)
		if err != nil {
			return err
		}
		fn(p)
	}
	return rows.Err()
}

// insert adds a product, and reports false if its sku is taken.
func (s *store) insert(ctx context.Context, p Product) (bool, error) {
	n, err := s.db.Exec(ctx, `
		INSERT INTO products (id, sku, name, description, category, price_currency, price_micros, image,
			version, create_time, update_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (sku) DO NOTHING`,
		p.ID, p.SKU, p.Name, p.Description, p.Category, p.Price.Currency, p.Price.Micros, p.Image,
		p.Version, db.Micros(p.Created), db.Micros(p.Updated))
	if err != nil {
		return false, fmt.Errorf("insert %s: %w", p.SKU, err)
	}
	return n == 1, nil
}

// replace puts p in the place of the version before it, and reports false if
// that is not the current one any more.
func (s *store) replace(ctx context.Context, p Product) (bool, error) {
	var deleted *int64
	if p.Deleted {
		deleted = new(db.Micros(p.Updated))

	}
	n, err := s.db.Exec(ctx, `
		UPDATE products SET name = $3, description = $4, category = $5, price_currency = $6, price_micros = $7,
			image = $8, version = $9, update_time = $10, delete_time = $11
		WHERE id = $1 AND version = $2`,
		p.ID, p.Version-1, p.Name, p.Description, p.Category, p.Price.Currency, p.Price.Micros,
		p.Image, p.Version, db.Micros(p.Updated), deleted)
	if err != nil {
		return false, fmt.Errorf("replace %s: %w", p.ID, err)
	}
	return n == 1, nil
}

// claimSeed reports whether the catalog is to be filled, for the first one who
// asks while there has never been a product. Another one waits for what becomes
// of the first one's transaction.
func (s *store) claimSeed(ctx context.Context, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `INSERT INTO seed (id, seed_time) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("claim the seed: %w", err)
	}
	if n == 0 {
		return false, nil
	}
	var used bool
	if err := s.db.Row(ctx, `SELECT EXISTS (SELECT 1 FROM products)`).Scan(&used); err != nil {
		return false, fmt.Errorf("look for products: %w", err)
	}
	return !used, nil
}
