// Package user keeps accounts, signs their owners in and vouches for their
// tokens.
//
// An access token is a JWT that every service verifies by itself; it lives for
// minutes. A refresh token is a random text that only this service knows, good
// for one exchange. All tokens of a sign-in are a session, and are revoked
// together.
package user

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// User is an account, without what it is opened with.
type User struct {
	ID          string // a UUIDv7
	Email       string // in lower case
	DisplayName string
	Roles       []string // such as auth.RoleUser
	Version     int64    // 1, and more with each change
	Created     time.Time
	Updated     time.Time
}

// Etag returns what changes with every change of the account.
func (u User) Etag() string { return strconv.FormatInt(u.Version, 10) }

// versionOf returns the version that an etag stands for: nil for no etag, and
// 0, which no account has, for one that was never given out.
func versionOf(etag string) *int64 {
	if etag == "" {
		return nil
	}
	v, err := strconv.ParseInt(etag, 10, 64)
	if err != nil {
		v = 0
	}
	return &v
}

// normalEmail returns the form in which an email address is kept and compared.
func normalEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// checkName refuses a display name that would disturb whoever shows it.
func checkName(field, name string) error {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fault.Invalid(field, "must not contain control characters")
	}
	return nil
}

// idOf returns the id of the account that a caller means by "me" or an id. One
// that the caller may not see is not found, as if it were not there.
func idOf(who *auth.Principal, id string) (string, error) {
	if who != nil && id == "me" {
		return who.Subject, nil
	}
	id = strings.ToLower(id)
	if !who.MayRead(id) {
		return "", notFound(id)
	}
	return id, nil
}

func notFound(id string) error { return fault.NotFound("user %s not found", id) }

func staleEtag(id string) error {
	return fault.Aborted("STALE_ETAG", "user %s has been changed since it was read: read it again", id)
}

// reasonEmailTaken is the reason of the fault that an email is another's.
const reasonEmailTaken = "EMAIL_TAKEN"

func emailTaken() error { return fault.Exists(reasonEmailTaken, "there is an account with this email") }

// accounts opens, changes and closes accounts.
type accounts struct {
	store     *store
	passwords *passwords
	sessions  *sessions
	news      news
	clock     func() time.Time
}

// now is the time as it can be stored, so that a reply says what a later read
// will say.
func (a *accounts) now() time.Time { return a.clock().UTC().Truncate(time.Microsecond) }

// newUser is what an account is opened with.
type newUser struct {
	email, password, name string
	roles                 []string
}

// create opens an account. The password is hashed before the transaction
// begins, as that takes tens of milliseconds in which nobody else could write.
func (a *accounts) create(ctx context.Context, key idem.Key, n newUser) (User, error) {
	hash, err := a.passwords.hash(ctx, n.password)
	if err != nil {
		return User{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	now := a.now()
	u := User{ID: id.String(), Email: normalEmail(n.email), DisplayName: n.name, Roles: n.roles, Version: 1, Created: now, Updated: now}
	// The stored reply is the id alone: a copy of the account would outlive it.
	made, err := once(ctx, a.store, key, func(tx *store) (string, error) {
		if err := tx.addUser(ctx, u, hash); err != nil {
			return "", err
		}
		return u.ID, a.news.created(ctx, tx, u)
	})
	if err != nil {
		return User{}, err
	}
	if made != u.ID {
		return a.repeat(ctx, made, n.password)
	}
	return u, nil
}

// repeat answers a repeated create. Its password is no part of the request's
// fingerprint, as that is quick to compute and so to guess from; it is held to
// the account's instead.
func (a *accounts) repeat(ctx context.Context, id, password string) (User, error) {
	c, err := a.store.credentialsOf(ctx, id)
	if err != nil {
		return User{}, err
	}
	ok, _, err := a.passwords.verify(ctx, c.hash, password)
	if err != nil {
		return User{}, err
	}
	if !ok {
		return User{}, fault.Violations(fault.Violation{
			Field: "request_id", Reason: "REQUEST_ID_REUSED",
			Text: "was used for another request; a new request needs a new id",
		})
	}
	return c.user, nil
}

// change is what an update sets; nil leaves a field as it is.
type change struct {
	email, name *string
	version     *int64 // that the account must have; nil: any
}

// check refuses values that an account can't have, and brings the others into
// the form in which they are kept.
func (c change) check() (change, error) {
	if c.email != nil {
		email := normalEmail(*c.email)
		if email == "" {
			return change{}, fault.Invalid("user.email", "must not be empty")
		}
		c.email = &email
	}
	if c.name != nil {
		return c, checkName("user.display_name", *c.name)
	}
	return c, nil
}

// update changes an account and returns it as it is then. It is read in the same
// transaction: once the change lasts there is nothing left that could fail.
func (a *accounts) update(ctx context.Context, key idem.Key, id string, c change) (u User, err error) {
	err = a.store.inTx(ctx, func(tx *store) error {
		_, err := once(ctx, tx, key, func(tx *store) (string, error) { return id, a.change(ctx, tx, id, c) })
		if err != nil {
			return err
		}
		u, err = tx.user(ctx, id)
		return err
	})
	if err != nil {
		return User{}, err
	}
	return u, nil
}

func (a *accounts) change(ctx context.Context, tx *store, id string, c change) error {
	if c.email == nil && c.name == nil {
		return tx.matches(ctx, id, c.version)
	}
	now := a.now()
	if err := tx.changeUser(ctx, id, c, now); err != nil {
		return err
	}
	return a.news.updated(ctx, tx, id, now)
}

// remove closes an account: what is personal is wiped, its sessions end, and
// its email is free again. An account that is closed already is left alone.
func (a *accounts) remove(ctx context.Context, id, etag string) error {
	now := a.now()
	var ends []ended
	err := a.store.inTx(ctx, func(tx *store) error {
		wiped, err := tx.wipeUser(ctx, id, versionOf(etag), now)
		if err != nil {
			return err
		}
		if !wiped {
			idem.Replayed(ctx)
			return nil
		}
		if ends, err = a.sessions.endAll(ctx, tx, id, now); err != nil {
			return err
		}
		return a.news.deleted(ctx, tx, id, now)
	})
	if err != nil {
		return err
	}
	a.sessions.refuse(ends)
	return nil
}
