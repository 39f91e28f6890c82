package rig

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Statements returns those that have taken the most time since it was last asked,
// most first, of a server that counts them.
func (p *Postgres) Statements(ctx context.Context) (string, error) {
	pool, err := sql.Open("pgx", p.URL(""))
	if err != nil {
		return "", err
	}
	defer pool.Close()
	if _, err := pool.ExecContext(ctx, `CREATE EXTENSION IF NOT EXISTS pg_stat_statements`); err != nil {
		return "", err
	}
	rows, err := pool.QueryContext(ctx, `SELECT total_exec_time, calls, rows, shared_blks_hit, wal_bytes::bigint, regexp_replace(query, '\s+', ' ', 'g')
		FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 40`)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	b := &strings.Builder{}
	fmt.Fprintf(b, "%10s %8s %8s %10s %10s  %s\n", "total ms", "calls", "rows", "blocks", "WAL bytes", "statement")
	for rows.Next() {
		var ms float64
		var calls, n, blocks, wal int64
		var text string
		if err := rows.Scan(&ms, &calls, &n, &blocks, &wal, &text); err != nil {
			return "", err
		}
		fmt.Fprintf(b, "%10.1f %8d %8d %10d %10d  %.150s\n", ms, calls, n, blocks, wal, text)
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	_, err = pool.ExecContext(ctx, `SELECT pg_stat_statements_reset()`)
	return b.String(), err
}
