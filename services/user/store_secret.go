package user

import (
	"context"
	"fmt"

	"github.com/meshmart/meshmart/services/internal/db"
)

// secrets returns all secrets, those of a kind in the order of their use.
func (s *store) secrets(ctx context.Context) ([]secret, error) {
	rows, err := s.db.Query(ctx, `SELECT kind, seq, from_time, cipher, value FROM secrets ORDER BY kind, seq`)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	defer rows.Close()
	var all []secret
	for rows.Next() {
		var x secret
		var from int64
		if err := rows.Scan(&x.kind, &x.seq, &from, &x.cipher, &x.value); err != nil {
			return nil, fmt.Errorf("read secrets: %w", err)
		}
		x.from = db.Time(from)
		all = append(all, x)
	}
	return all, rows.Err()
}

// addSecret adds a secret, unless another replica has added that one.
func (s *store) addSecret(ctx context.Context, x secret) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO secrets (kind, seq, from_time, cipher, value) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, seq) DO NOTHING`, x.kind, x.seq, db.Micros(x.from), x.cipher, x.value)
	if err != nil {
		return fmt.Errorf("add secret %s: %w", x.name(), err)
	}
	return nil
}

// encryptSecret replaces a secret in clear by the same one encrypted.
func (s *store) encryptSecret(ctx context.Context, x secret) error {
	_, err := s.db.Exec(ctx, `UPDATE secrets SET cipher = $3, value = $4 WHERE kind = $1 AND seq = $2 AND cipher = ''`,
		x.kind, x.seq, x.cipher, x.value)
	if err != nil {
		return fmt.Errorf("encrypt secret %s: %w", x.name(), err)
	}
	return nil
}

func (s *store) dropSecret(ctx context.Context, kind string, seq int64) error {
	if _, err := s.db.Exec(ctx, `DELETE FROM secrets WHERE kind = $1 AND seq = $2`, kind, seq); err != nil {
		return fmt.Errorf("drop secret %s %d: %w", kind, seq, err)
	}
	return nil
}
