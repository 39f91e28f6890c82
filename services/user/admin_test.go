package user

import (
	"context"
	"encoding/base64"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/app/apptest"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// announced collects the passwords that were made up.
type announced struct {
	mu        sync.Mutex
	passwords []string
}

func (a *announced) hear(_, password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passwords = append(a.passwords, password)
}

func (a *announced) service() app.Service {
	svc := New()
	svc.Config.(*Config).Announce = a.hear
	return svc
}

func TestReplicasMakeOneAdministratorAndTellOnePassword(t *testing.T) {
	var heard announced
	world, log := apptest.New(t), &buffer{}
	env := map[string]string{"DATABASE_URL": dbtest.Postgres(t), "ADMIN_EMAIL": " Root@Example.com"}
	var wg sync.WaitGroup
	for range 3 {
		w := apptest.New(t)
		w.Broker, w.Log = world.Broker, log
		wg.Go(func() { w.Start(heard.service(), env) })
	}
	wg.Wait()
	world.Start(heard.service(), env) // one that comes later finds it
	heard.check(t, world, log)
}

func TestRestartFindsTheAdministrator(t *testing.T) {
	var heard announced
	world, log := apptest.New(t), &buffer{}
	world.Log = log
	env := map[string]string{"DATABASE_URL": dbtest.SQLite(t), "ADMIN_EMAIL": rootEmail}
	world.Start(heard.service(), env)()
	again := apptest.New(t)
	again.Start(heard.service(), env)
	heard.check(t, again, log)
}

// check checks that one password was told, is in no log, and is that of the one
// account, an administrator's.
func (a *announced) check(t *testing.T, w *apptest.World, log *buffer) {
	t.Helper()
	if len(a.passwords) != 1 || len(a.passwords[0]) != 20 {
		t.Fatalf("told %d passwords", len(a.passwords))
	}
	if strings.Contains(log.String(), a.passwords[0]) {
		t.Error("the password is in the log")
	}
	cc := w.Conn("user")
	r, err := userpb.NewAuthServiceClient(cc).Login(t.Context(), &userpb.LoginRequest{Email: rootEmail, Password: a.passwords[0]})
	if err != nil {
		t.Fatal(err)
	}
	l, err := userpb.NewUserServiceClient(cc).ListUsers(bearing(t, r.GetAccessToken()), &userpb.ListUsersRequest{})
	if err != nil || l.GetTotalSize() != 1 {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestGivenPasswordOfTheAdministratorIsNotTold(t *testing.T) {
	var heard announced
	w := apptest.New(t)
	w.Start(heard.service(), map[string]string{"ADMIN_EMAIL": rootEmail, "ADMIN_PASSWORD": password})
	if len(heard.passwords) != 0 {
		t.Errorf("told %d passwords", len(heard.passwords))
	}
	_, err := userpb.NewAuthServiceClient(w.Conn("user")).Login(t.Context(), &userpb.LoginRequest{Email: rootEmail, Password: password})
	if err != nil {
		t.Error(err)
	}
}

func TestAccountOfSomebodyElseIsNotMadeAdministrator(t *testing.T) {
	h := newHouse(apptest.New(t), t, dbtest.SQLite(t)).start(map[string]string{"ADMIN_EMAIL": ""})
	h.join(rootEmail)
	h.stop()
	h = open(t, h.url, nil)
	_, err := h.users.ListUsers(h.as(rootEmail), &userpb.ListUsersRequest{})
	refused(t, err, codes.PermissionDenied, "ADMIN_REQUIRED")
}

func TestWrongConfigurationNamesTheVariable(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("too short"))
	for name, env := range map[string]map[string]string{
		"ACCESS_TOKEN_TTL":   {"ACCESS_TOKEN_TTL": "25h"},
		"REFRESH_TOKEN_TTL":  {"REFRESH_TOKEN_TTL": "1m"},
		"KEY_ROTATION":       {"KEY_ROTATION": "1h"},
		"KEY_ENCRYPTION_KEY": {"KEY_ENCRYPTION_KEY": key},
		"ADMIN_EMAIL":        {"ADMIN_EMAIL": "root"},
		"ADMIN_PASSWORD":     {"ADMIN_EMAIL": rootEmail, "ADMIN_PASSWORD": "short"},
	} {
		env["DATA_DIR"] = t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := app.Run(ctx, New(), app.Options{Environ: env, Network: &app.Memory{}, Log: io.Discard})
		cancel()
		if err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s: got %v", name, err)
		} else if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "short") {
			t.Errorf("a secret is repeated: %v", err)
		}
	}
}
