package user

import (
	"context"
	"slices"
	"time"

	"github.com/meshmart/meshmart/services/internal/idem"
)

// logout ends the session that a refresh token belongs to. A token that is not
// known, or no longer, is no error (RFC 7009, section 2.2): what the caller
// wants is so.
func (s *sessions) logout(ctx context.Context, token string) error {
	var ends []ended
	err := s.store.inTx(ctx, func(tx *store) error {
		t, err := tx.token(ctx, tokenHash(token))
		if err != nil || t.session == "" {
			return err
		}
		ends, err = s.end(ctx, tx, t.session, s.clock())
		if err == nil && len(ends) == 0 {
			idem.Replayed(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.refuse(ends)
	return nil
}

// ended is a session that was revoked.
type ended struct {
	session string
	until   time.Time // when its last access token expires
}

// end revokes a session and announces it, unless that was done before.
func (s *sessions) end(ctx context.Context, tx *store, session string, now time.Time) ([]ended, error) {
	ends, err := tx.revokeSession(ctx, session, now)
	if err != nil {
		return nil, err
	}
	return ends, s.announce(ctx, tx, ends, now)
}

// endAll revokes the sessions of an account. There may be hundreds; those whose
// access tokens have all expired concern nobody else.
func (s *sessions) endAll(ctx context.Context, tx *store, user string, now time.Time) ([]ended, error) {
	ends, err := tx.revokeSessions(ctx, user, now)
	if err != nil {
		return nil, err
	}
	ends = slices.DeleteFunc(ends, func(e ended) bool { return !e.until.After(now) })
	return ends, s.announce(ctx, tx, ends, now)
}

func (s *sessions) announce(ctx context.Context, tx *store, ends []ended, now time.Time) error {
	for i, e := range ends {
		if until := now.Add(s.access); until.After(e.until) {
			ends[i].until = until
		}
		if err := s.news.revoked(ctx, tx, ends[i]); err != nil {
			return err
		}
	}
	return nil
}

// refuse has this process refuse the access tokens of sessions from now on,
// before the event has made its way.
func (s *sessions) refuse(ends []ended) {
	for _, e := range ends {
		s.revoked.Add(e.session, e.until)
	}
}
