package user

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// admin sees to it that there is an administrator to begin with.
type admin struct {
	accounts *accounts
	log      *slog.Logger
	email    string
	password string                       // empty: one is made up
	announce func(email, password string) // hears of one made up, once
	done     atomic.Bool
}

// run creates the administrator's account, unless there is one with its email.
// Of several replicas that try at once, one does.
func (a *admin) run(ctx context.Context) error {
	c, err := a.accounts.store.credentialsFor(ctx, a.email)
	if err != nil {
		return fmt.Errorf("look for administrator: %w", err)
	}
	switch {
	case c.user.ID == "":
		err = a.create(ctx)
	case !slices.Contains(c.user.Roles, auth.RoleAdmin):
		// Whoever opened it knows its password, so it is not promoted.
		a.log.WarnContext(ctx, "ADMIN_EMAIL is the email of an account that is no administrator's", "user", c.user.ID)
	}
	if err == nil {
		a.done.Store(true)
	}
	return err
}

func (a *admin) create(ctx context.Context) error {
	password := a.password
	if password == "" {
		password = rand.Text()[:20] // of base32: 100 bits
	}
	u, err := a.accounts.create(ctx, idem.Key{}, newUser{
		email: a.email, password: password, name: "Administrator", roles: []string{auth.RoleUser, auth.RoleAdmin},
	})
	if fault.Reason(err) == reasonEmailTaken { // another replica was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("create administrator: %w", err)
	}
	a.log.InfoContext(ctx, "administrator created", "user", u.ID)
	if a.password == "" {
		a.announce(u.Email, password)
	}
	return nil
}

// ready is the condition of readiness: whoever finds the service ready can
// sign in as the administrator.
func (a *admin) ready(context.Context) error {
	if !a.done.Load() {
		return errors.New("not created yet")
	}
	return nil
}
