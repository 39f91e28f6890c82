package user

import (
	"strings"
	"sync/atomic"
	"testing"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// Once a change is committed its reply needs the database no more: an outage then
// would be told as one before which nothing was done.
func TestNoReplyNeedsTheDatabaseAfterTheCommit(t *testing.T) {
	dbtest.EachURL(t, func(t *testing.T, url string) {
		var beside atomic.Pointer[db.DB] // set: the tables are gone after the next commit
		h := newHouse(apptest.New(t), t, url)
		h.world.Point = func(p string) {
			inCall := strings.HasPrefix(p, "user: after commit of ") && strings.Contains(p, " in user.v1.") // not the outbox's
			if d := beside.Load(); d != nil && inCall && beside.CompareAndSwap(d, nil) {
				if _, err := d.Exec(t.Context(), `ALTER TABLE users RENAME TO gone`); err != nil {
					t.Error(err)
				}
			}
		}
		h.start(nil)
		h.join("ada@example.com")
		ada, d := h.as("ada@example.com"), h.database()
		for name, call := range map[string]func() error{
			"create": func() error {
				_, err := h.users.CreateUser(ada, &userpb.CreateUserRequest{Email: "bob@example.com", Password: password})
				return err
			},
			"update": func() error {
				r, err := h.users.UpdateUser(ada, &userpb.UpdateUserRequest{User: &userpb.User{Id: "me", DisplayName: "Countess"}})
				if got := r.GetUser().GetDisplayName(); err == nil && got != "Countess" {
					t.Errorf("got %q", got)
				}
				return err
			},
			"login": func() error {
				_, err := h.auth.Login(ada, &userpb.LoginRequest{Email: "ada@example.com", Password: password})
				return err
			},
		} {
			beside.Store(d)
			if err := call(); err != nil || beside.Load() != nil {
				t.Errorf("%s: %v; did it commit: %v", name, err, beside.Load() == nil)
			}
			if _, err := d.Exec(t.Context(), `ALTER TABLE gone RENAME TO users`); err != nil {
				t.Fatal(name, err)
			}
		}
	})
}
