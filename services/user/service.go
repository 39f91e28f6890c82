package user

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/mail"
	"os"
	"time"
	"unicode/utf8"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db"
)

//go:embed schema/*.sql
var schema embed.FS

// Config is what the service reads from its environment.
type Config struct {
	AccessTTL     time.Duration `env:"ACCESS_TOKEN_TTL" envDefault:"15m" doc:"how long an access token lives; 24h at most"`
	RefreshTTL    time.Duration `env:"REFRESH_TOKEN_TTL" envDefault:"720h" doc:"how long a refresh token is good; each refresh gives a new one"`
	KeyRotation   time.Duration `env:"KEY_ROTATION" envDefault:"720h" doc:"how long a key signs tokens before the next one does; 2h at least"`
	KeyEncryption string        `env:"KEY_ENCRYPTION_KEY" doc:"encrypts the signing keys in the database (AES-256-GCM): 32 random bytes in base64, kept from then on; empty: they are kept in clear"`
	AdminEmail    string        `env:"ADMIN_EMAIL" doc:"email of the administrator, who is created at the start if there is no such account; empty: none"`
	AdminPassword string        `env:"ADMIN_PASSWORD" doc:"password of the administrator when created, 8 to 128 characters; empty: one is made up and printed once"`

	// Announce is told of a password that was made up, once. It must not log it.
	Announce func(email, password string)

	seal sealer
}

// Validate checks what the types alone do not say.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.AccessTTL < time.Second || c.AccessTTL > auth.MaxLifetime, "ACCESS_TOKEN_TTL: %v is not between 1s and %v", c.AccessTTL, auth.MaxLifetime)
	wrong(c.RefreshTTL < c.AccessTTL, "REFRESH_TOKEN_TTL: %v is less than ACCESS_TOKEN_TTL", c.RefreshTTL)
	wrong(c.KeyRotation < 2*ahead, "KEY_ROTATION: %v is less than %v", c.KeyRotation, 2*ahead)
	var err error
	c.seal, err = newSealer(c.KeyEncryption)
	wrong(err != nil, "KEY_ENCRYPTION_KEY: %w", err)
	if c.AdminEmail = normalEmail(c.AdminEmail); c.AdminEmail != "" {
		a, err := mail.ParseAddress(c.AdminEmail)
		wrong(err != nil || a.Address != c.AdminEmail, "ADMIN_EMAIL: %q is no email address", c.AdminEmail)
	}
	n := utf8.RuneCountInString(c.AdminPassword)
	wrong(n > 0 && n < 8 || n > 128, "ADMIN_PASSWORD: not 8 to 128 characters long")
	return errors.Join(errs...)
}

// printAdmin writes to standard output, which a log collector reads too in a
// cluster: set ADMIN_PASSWORD there.
func printAdmin(email, password string) {
	fmt.Fprintf(os.Stdout, "\nadministrator: %s\npassword:      %s   (not shown again)\n\n", email, password)
}

// New returns the user service.
func New() app.Service {
	c := &Config{Announce: printAdmin}
	return app.Service{
		Name:   "user",
		Doc:    "accounts, sign-in and tokens",
		Config: c,
		Start:  func(ctx context.Context, env *app.Env) error { return start(ctx, env, c) },
	}
}

func start(ctx context.Context, env *app.Env, c *Config) error {
	d, err := env.DB(ctx, schema)
	if err != nil {
		return err
	}
	a, err := wire(env, c, d)
	if err != nil {
		return err
	}
	keys := a.sessions.keys
	env.Check("signing keys", keys.ready)
	env.Go("signing keys", func(ctx context.Context) error { return every(ctx, reloadKeys, keys.reload) })
	env.Go("expired sessions", func(ctx context.Context) error { return every(ctx, time.Hour, a.sessions.prune) })
	if c.AdminEmail != "" {
		first := &admin{accounts: a, log: env.Log, email: c.AdminEmail, password: c.AdminPassword, announce: c.Announce}
		env.Check("administrator", first.ready)
		env.Go("administrator", first.run)
	}
	userpb.RegisterUserServiceServer(env.Server, &handler{accounts: a, store: a.store, log: env.Log, clock: env.Clock})
	userpb.RegisterAuthServiceServer(env.Server, &authHandler{sessions: a.sessions, keys: keys})
	return nil
}

// wire makes the accounts and what they stand on.
func wire(env *app.Env, c *Config, d *db.DB) (*accounts, error) {
	outbox, err := env.Outbox(d)
	if err != nil {
		return nil, err
	}
	st := &store{d}
	hashes := newPasswords(standard)
	keys := &keyring{store: st, seal: c.seal, clock: env.Clock, log: env.Log, rotation: c.KeyRotation}
	public := keys.public()
	env.UseKeys(public)
	return &accounts{
		store: st, passwords: hashes, news: news{outbox}, clock: env.Clock,
		sessions: &sessions{
			store: st, passwords: hashes, keys: keys, news: news{outbox}, clock: env.Clock,
			verifier: auth.NewVerifier(public, env.Revocations(), env.Clock), revoked: env.Revocations(),
			access: c.AccessTTL, refresh: c.RefreshTTL,
		},
	}, nil
}

// every calls fn now and then again each period, until it fails or ctx is done.
func every(ctx context.Context, period time.Duration, fn func(context.Context) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if err := fn(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
