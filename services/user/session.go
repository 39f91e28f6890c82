package user

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// sessions signs users in and out.
type sessions struct {
	store     *store
	passwords *passwords
	keys      *keyring
	verifier  *auth.Verifier
	revoked   *auth.Revocations // of this process; others hear of it as an event
	news      news
	clock     func() time.Time
	access    time.Duration // how long an access token lives
	refresh   time.Duration // how long a refresh token is good
}

// tokens is what a sign-in gives.
type tokens struct {
	access, refresh string
	lifetime        time.Duration // of the access token, from now on
}

// grant is what tokens are made of. The same grant makes the same claims.
type grant struct {
	user    User
	session string
	issued  time.Time
	refresh string
}

// login exchanges an email and a password for tokens. It takes as long for an
// email that nobody has.
func (s *sessions) login(ctx context.Context, email, password string) (tokens, error) {
	c, err := s.store.credentialsFor(ctx, normalEmail(email))
	if err != nil {
		return tokens{}, err
	}
	ok, outdated, err := s.passwords.verify(ctx, c.hash, password)
	if err != nil {
		return tokens{}, err
	}
	if !ok {
		return tokens{}, badCredentials()
	}
	hash := c.hash
	if outdated {
		if hash, err = s.passwords.hash(ctx, password); err != nil {
			return tokens{}, err
		}
	}
	return s.begin(ctx, c, hash)
}

func badCredentials() error {
	return fault.Unauthenticated("BAD_CREDENTIALS", "the email or the password is wrong")
}

// begin opens a session for whoever has shown that the account c is theirs, and
// replaces its hash.
func (s *sessions) begin(ctx context.Context, c credentials, hash string) (tokens, error) {
	ring, err := s.keys.current(ctx)
	if err != nil {
		return tokens{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tokens{}, fmt.Errorf("begin session: %w", err)
	}
	g := grant{user: c.user, session: id.String(), issued: s.clock(), refresh: encode(random(sha256.Size))}
	err = s.store.inTx(ctx, func(tx *store) error {
		// The account's row is held until the end, so that nobody closes it
		// without seeing this session.
		open, err := tx.signedIn(ctx, c, hash, g.issued)
		if err != nil {
			return err
		}
		if !open {
			return badCredentials()
		}
		if err := tx.addSession(ctx, g, s.accessEnd(g), s.refreshEnd(g)); err != nil {
			return err
		}
		return tx.addToken(ctx, tokenHash(g.refresh), g.session, s.refreshEnd(g))
	})
	if err != nil {
		return tokens{}, err
	}
	return s.issue(ring, g)
}

func (s *sessions) accessEnd(g grant) time.Time  { return g.issued.Add(s.access) }
func (s *sessions) refreshEnd(g grant) time.Time { return g.issued.Add(s.refresh) }

// issue makes the tokens of a grant.
func (s *sessions) issue(r *ring, g grant) (tokens, error) {
	now := s.clock()
	key := r.signer(now)
	hash := sha256.Sum256([]byte("jti " + g.refresh))
	access, err := auth.Sign(key.private, key.jwk.Kid, auth.Claims{
		Subject: g.user.ID, Session: g.session, Roles: g.user.Roles, ID: encode(hash[:16]),
		Issued: g.issued, Expires: s.accessEnd(g),
	})
	if err != nil {
		return tokens{}, err
	}
	return tokens{access: access, refresh: g.refresh, lifetime: max(s.accessEnd(g).Sub(now), 0)}, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tokenHash is what is kept of a refresh token. It has 256 random bits, so a
// fast hash is good enough: there is nothing to guess.
func tokenHash(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// validate returns whose access token it is. Unlike other services, which may
// hear of a revocation a moment later, this one asks the database.
func (s *sessions) validate(ctx context.Context, token string) (*auth.Principal, error) {
	p, err := s.verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	live, err := s.store.sessionLives(ctx, p.Session)
	if err != nil {
		return nil, err
	}
	if !live {
		return nil, fault.Unauthenticated(auth.ReasonRevoked, "the token has been revoked")
	}
	return p, nil
}

// prune deletes what has expired: sessions none of whose tokens is good any
// more, and their refresh tokens.
func (s *sessions) prune(ctx context.Context) error {
	return s.store.dropExpired(ctx, s.clock())
}
