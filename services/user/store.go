package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/list"
)

// store keeps accounts, sessions and secrets. What is closed is not there.
type store struct{ db *db.DB }

// inTx calls fn with a store that is bound to one transaction.
func (s *store) inTx(ctx context.Context, fn func(tx *store) error) error {
	return s.db.InTx(ctx, func(d *db.DB) error { return fn(&store{d}) })
}

// once runs fn in a transaction, or returns the reply of the same request before.
func once[T any](ctx context.Context, s *store, key idem.Key, fn func(tx *store) (T, error)) (T, error) {
	return idem.Do(ctx, s.db, key, func(d *db.DB) (T, error) { return fn(&store{d}) })
}

// writable returns nil if accounts can be read and written: it does what a
// change does, to no row.
func (s *store) writable(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `UPDATE users SET version = version WHERE id = ''`)
	return err
}

const userColumns = `id, email, display_name, roles, version, create_time, update_time`

// scanUser reads userColumns and what follows them.
func scanUser(row list.Row, more ...any) (User, error) {
	var u User
	var roles string
	var created, updated int64
	err := row.Scan(append([]any{&u.ID, &u.Email, &u.DisplayName, &roles, &u.Version, &created, &updated}, more...)...)
	u.Roles = strings.Fields(roles)
	u.Created, u.Updated = db.Time(created), db.Time(updated)
	return u, err
}

// user returns an account, or the fault NOT_FOUND.
func (s *store) user(ctx context.Context, id string) (User, error) {
	c, err := s.credentialsOf(ctx, id)
	return c.user, err
}

// credentials is an account and the hash of its password.
type credentials struct {
	user User
	hash string
}

func (s *store) credentialsOf(ctx context.Context, id string) (credentials, error) {
	c, err := s.credentials(ctx, `id = $1`, id)
	if err == nil && c.user.ID == "" {
		return c, notFound(id)
	}
	return c, err
}

// credentialsFor returns the account with an email, or nothing: whether there
// is one is not for everybody to know.
func (s *store) credentialsFor(ctx context.Context, email string) (credentials, error) {
	if strings.ContainsRune(email, 0) { // which PostgreSQL has no text with
		return credentials{}, nil
	}
	return s.credentials(ctx, `email = $1`, email)
}

func (s *store) credentials(ctx context.Context, where, value string) (credentials, error) {
	var c credentials
	var err error
	c.user, err = scanUser(s.db.Row(ctx, `SELECT `+userColumns+`, password FROM users WHERE delete_time IS NULL AND `+where, value), &c.hash)
	if errors.Is(err, sql.ErrNoRows) {
		return credentials{}, nil
	}
	if err != nil {
		return credentials{}, fmt.Errorf("read user: %w", err)
	}
	return c, nil
}

func (s *store) addUser(ctx context.Context, u User, hash string) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO users (id, email, display_name, roles, password, version, create_time, update_time)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		u.ID, u.Email, u.DisplayName, strings.Join(u.Roles, " "), hash, u.Version, db.Micros(u.Created), db.Micros(u.Updated))
	if db.IsDuplicate(err) {
		return emailTaken()
	}
	if err != nil {
		return fmt.Errorf("add user %s: %w", u.ID, err)
	}
	return nil
}

// changeUser sets what c names. It is refused if c has an etag that is stale.
func (s *store) changeUser(ctx context.Context, id string, c change, now time.Time) error {
	n, err := s.db.Exec(ctx, `
		UPDATE users SET email = COALESCE($2, email), display_name = COALESCE($3, display_name),
			version = version + 1, update_time = $4
		WHERE id = $1 AND delete_time IS NULL AND version = COALESCE($5, version)`,
		id, c.email, c.name, db.Micros(now), c.version)
	switch {
	case db.IsDuplicate(err):
		return emailTaken()
	case err != nil:
		return fmt.Errorf("update user %s: %w", id, err)
	case n == 0:
		return s.matches(ctx, id, c.version)
	}
	return nil
}

// matches returns nil if there is the account in this version (nil: any), and
// else the fault that says which of the two is not so.
func (s *store) matches(ctx context.Context, id string, version *int64) error {
	u, err := s.user(ctx, id)
	if err == nil && version != nil && *version != u.Version {
		return staleEtag(id)
	}
	return err
}

// wipeUser closes an account, and returns false if it was closed before.
func (s *store) wipeUser(ctx context.Context, id string, version *int64, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `
		UPDATE users SET email = '', display_name = '', password = '', version = version + 1, update_time = $2, delete_time = $2
		WHERE id = $1 AND delete_time IS NULL AND version = COALESCE($3, version)`,
		id, db.Micros(now), version)
	if err != nil {
		return false, fmt.Errorf("close user %s: %w", id, err)
	}
	if n == 1 {
		return true, nil
	}
	var closed bool
	err = s.db.Row(ctx, `SELECT delete_time IS NOT NULL FROM users WHERE id = $1`, id).Scan(&closed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, notFound(id)
	case err != nil:
		return false, fmt.Errorf("close user %s: %w", id, err)
	case !closed:
		return false, staleEtag(id)
	}
	return false, nil
}

// lists says what ListUsers can filter and sort by.
var lists = list.Spec{
	Fields: map[string]list.Field{
		"email":        {Column: "email", Kind: list.String, Filter: true, Sort: true},
		"display_name": {Column: "display_name", Kind: list.String, Filter: true},
		"create_time":  {Column: "create_time", Kind: list.Time, Filter: true, Sort: true},
		"update_time":  {Column: "update_time", Kind: list.Time, Filter: true},
	},
	Order: "create_time",
	Key:   "id",
}

// page is a page of a list of accounts.
type page struct {
	users []User
	next  string // token of the page after it
	total int    // how many match
}

func (s *store) list(ctx context.Context, r list.Request) (page, error) {
	const open = "delete_time IS NULL"
	q, err := lists.Parse(r)
	if err != nil {
		return page{}, err
	}
	tail, args := q.Page(open)
	rows, err := s.db.Query(ctx, `SELECT `+userColumns+`, `+q.Keys()+` FROM users`+tail, args...)
	if err != nil {
		return page{}, fmt.Errorf("list users: %w", err)
	}
	var p page
	p.users, p.next, err = list.Scan(q, rows, func(r list.Row) (User, error) { return scanUser(r) })
	if err != nil {
		return page{}, fmt.Errorf("list users: %w", err)
	}
	if p.total = len(p.users); q.Whole(p.next) {
		return p, nil
	}
	count, args := q.Count("users", open)
	if err := s.db.Row(ctx, count, args...).Scan(&p.total); err != nil {
		return page{}, fmt.Errorf("count users: %w", err)
	}
	return p, nil
}
