package inventory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// store keeps stock and reservations.
type store struct {
	db *db.DB
}

func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.db.InTx(ctx, func(tx *db.DB) error { return fn(&store{tx}) })
}

// once calls fn in a transaction, unless it was before with that key: then it
// returns what fn did.
func (s *store) once(ctx context.Context, key idem.Key, fn func(tx *store) (Stock, error)) (Stock, error) {
	return idem.Do(ctx, s.db, key, func(tx *db.DB) (Stock, error) { return fn(&store{tx}) })
}

const stockColumns = `product_id, available, reserved, sold, stocked, discontinued, version, create_time, update_time`

func scanStock(scan func(...any) error) (Stock, error) {
	var s Stock
	var created, updated int64
	err := scan(&s.ProductID, &s.Available, &s.Reserved, &s.Sold, &s.Stocked, &s.Discontinued, &s.Version, &created, &updated)
	s.Created, s.Updated = db.Time(created), db.Time(updated)
	return s, err
}

// one runs a statement that returns a stock; it reports false if there is none.
func (s *store) one(ctx context.Context, what, query string, args ...any) (Stock, bool, error) {
	st, err := scanStock(s.db.Row(ctx, query, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Stock{}, false, nil
	}
	if err != nil {
		return Stock{}, false, fmt.Errorf("%s: %w", what, err)
	}
	return st, true, nil
}

// find returns the stock of a product, and false if it is not known.
func (s *store) find(ctx context.Context, productID string) (Stock, bool, error) {
	return s.one(ctx, "stock of "+productID, `SELECT `+stockColumns+` FROM stock WHERE product_id = $1`, productID)
}

// stock returns the stock of a product, or NOT_FOUND.
func (s *store) stock(ctx context.Context, productID string) (Stock, error) {
	st, found, err := s.find(ctx, productID)
	if err == nil && !found {
		err = unknown(productID)
	}
	return st, err
}

func unknown(productID string) error {
	return fault.NotFound("there is no product %s", productID).With("product_id", productID)
}

// stocks returns the stock of products in the order of the ids, or NOT_FOUND
// for the first that is not known.
func (s *store) stocks(ctx context.Context, ids []string) ([]Stock, error) {
	places, args := db.In(ids)
	rows, err := s.db.Query(ctx, `SELECT `+stockColumns+` FROM stock WHERE product_id IN (`+places+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("stock of %d products: %w", len(ids), err)
	}
	defer rows.Close()
	byID := make(map[string]Stock, len(ids))
	for rows.Next() {
		st, err := scanStock(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("stock of %d products: %w", len(ids), err)
		}
		byID[st.ProductID] = st
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("stock of %d products: %w", len(ids), err)
	}
	return inOrder(ids, byID)
}

func inOrder(ids []string, byID map[string]Stock) ([]Stock, error) {
	all := make([]Stock, len(ids))
	for i, id := range ids {
		st, ok := byID[id]
		if !ok {
			return nil, unknown(id)
		}
		all[i] = st
	}
	return all, nil
}

// add makes a product known with n to sell, as of its time in the catalog. One
// that is known keeps its stock, unless it was discontinued before that time:
// then it is on sale again.
func (s *store) add(ctx context.Context, productID string, n int64, asOf, now time.Time) error {
	_, err := s.db.Exec(ctx, `INSERT INTO stock (`+stockColumns+`, product_time) VALUES ($1, $2, 0, 0, $2, FALSE, 1, $3, $3, $4)
		ON CONFLICT (product_id) DO UPDATE SET
			available = CASE WHEN stock.discontinued THEN excluded.available ELSE stock.available END,
			stocked = CASE WHEN stock.discontinued THEN stock.reserved + stock.sold + excluded.available ELSE stock.stocked END,
			version = CASE WHEN stock.discontinued THEN stock.version + 1 ELSE stock.version END,
			update_time = CASE WHEN stock.discontinued THEN excluded.update_time ELSE stock.update_time END,
			discontinued = FALSE, product_time = excluded.product_time
		WHERE stock.product_time < excluded.product_time`, productID, n, db.Micros(now), db.Micros(asOf))
	if err != nil {
		return fmt.Errorf("add stock of %s: %w", productID, err)
	}
	return nil
}

// discontinue takes a product out of sale, even one that is not known yet,
// unless the catalog has brought it back since.
func (s *store) discontinue(ctx context.Context, productID string, asOf, now time.Time) error {
	_, err := s.db.Exec(ctx, `INSERT INTO stock (`+stockColumns+`, product_time) VALUES ($1, 0, 0, 0, 0, TRUE, 1, $2, $2, $3)
		ON CONFLICT (product_id) DO UPDATE SET discontinued = TRUE, version = stock.version + 1,
			update_time = excluded.update_time, product_time = excluded.product_time
		WHERE NOT stock.discontinued AND stock.product_time <= excluded.product_time`, productID, db.Micros(now), db.Micros(asOf))
	if err != nil {
		return fmt.Errorf("discontinue %s: %w", productID, err)
	}
	return nil
}

// set makes n available, of a product that may not be known. It reports false
// if all together would then be more than there can be.
func (s *store) set(ctx context.Context, productID string, n int64, now time.Time) (Stock, bool, error) {
	return s.one(ctx, "set stock of "+productID, `
		INSERT INTO stock (`+stockColumns+`) VALUES ($1, $2, 0, 0, $2, FALSE, 1, $3, $3)
		ON CONFLICT (product_id) DO UPDATE SET available = excluded.available,
			stocked = stock.reserved + stock.sold + excluded.available,
			version = stock.version + 1, update_time = excluded.update_time
		WHERE stock.reserved + stock.sold + excluded.available <= $4
		RETURNING `+stockColumns, productID, n, db.Micros(now), maxStocked)
}

// setIf is set for a stock of that version; it also reports false for another.
func (s *store) setIf(ctx context.Context, productID string, n, version int64, now time.Time) (Stock, bool, error) {
	return s.one(ctx, "set stock of "+productID, `
		UPDATE stock SET available = $2, stocked = reserved + sold + $2, version = version + 1, update_time = $3
		WHERE product_id = $1 AND version = $4 AND reserved + sold + $2 <= $5
		RETURNING `+stockColumns, productID, n, db.Micros(now), version, maxStocked)
}

// adjust adds delta to what is available; it reports false if the product is
// not known or there would be too few or too many.
func (s *store) adjust(ctx context.Context, productID string, delta int64, now time.Time) (Stock, bool, error) {
	return s.one(ctx, "adjust stock of "+productID, `
		UPDATE stock SET available = available + $2, stocked = stocked + $2, version = version + 1, update_time = $3
		WHERE product_id = $1 AND available + $2 >= 0 AND available + $2 <= $4 AND stocked + $2 <= $5
		RETURNING `+stockColumns, productID, delta, db.Micros(now), maxAvailable, maxStocked)
}

// advance moves the source's mark up to sequence, and reports false if it is
// there or higher already.
func (s *store) advance(ctx context.Context, source string, sequence int64, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `
		INSERT INTO sync_sources (source, last_sequence, update_time) VALUES ($1, $2, $3)
		ON CONFLICT (source) DO UPDATE SET last_sequence = excluded.last_sequence, update_time = excluded.update_time
		WHERE sync_sources.last_sequence < excluded.last_sequence`, source, sequence, db.Micros(now))
	if err != nil {
		return false, fmt.Errorf("count %d of %s: %w", sequence, source, err)
	}
	return n == 1, nil
}
