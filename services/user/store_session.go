package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/db"
)

// signedIn notes the sign-in at an account and its new hash. It returns false
// if the account is closed, and otherwise keeps it from being closed until the
// transaction ends.
func (s *store) signedIn(ctx context.Context, c credentials, hash string, now time.Time) (bool, error) {
	n, err := s.db.Exec(ctx, `
		UPDATE users SET login_time = $2, password = CASE WHEN password = $3 THEN $4 ELSE password END
		WHERE id = $1 AND delete_time IS NULL`, c.user.ID, db.Micros(now), c.hash, hash)
	if err != nil {
		return false, fmt.Errorf("sign in %s: %w", c.user.ID, err)
	}
	return n == 1, nil
}

func (s *store) addSession(ctx context.Context, g grant, accessEnd, refreshEnd time.Time) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO sessions (id, user_id, create_time, access_expire, expire_time) VALUES ($1, $2, $3, $4, $5)`,
		g.session, g.user.ID, db.Micros(g.issued), db.Micros(accessEnd), db.Micros(refreshEnd))
	if err != nil {
		return fmt.Errorf("add session %s: %w", g.session, err)
	}
	return nil
}

// extendSession lets a session live on for its new tokens, and returns whose it
// is; nobody's if it was revoked.
func (s *store) extendSession(ctx context.Context, session string, accessEnd, refreshEnd time.Time) (user string, err error) {
	err = s.db.Row(ctx, `
		UPDATE sessions SET access_expire = $2, expire_time = $3 WHERE id = $1 AND revoke_time IS NULL
		RETURNING user_id`, session, db.Micros(accessEnd), db.Micros(refreshEnd)).Scan(&user)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("extend session %s: %w", session, err)
	}
	return user, nil
}

// sessionLives reports whether a session is there and not revoked.
func (s *store) sessionLives(ctx context.Context, session string) (bool, error) {
	var revoked bool
	err := s.db.Row(ctx, `SELECT revoke_time IS NOT NULL FROM sessions WHERE id = $1`, session).Scan(&revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read session %s: %w", session, err)
	}
	return !revoked, nil
}

// revokeSession revokes a session and returns it, unless it was revoked before.
func (s *store) revokeSession(ctx context.Context, session string, now time.Time) ([]ended, error) {
	return s.revoke(ctx, `id = $2`, session, now)
}

// revokeSessions revokes the sessions of an account and returns those that were
// not before.
func (s *store) revokeSessions(ctx context.Context, user string, now time.Time) ([]ended, error) {
	return s.revoke(ctx, `user_id = $2`, user, now)
}

func (s *store) revoke(ctx context.Context, which, value string, now time.Time) ([]ended, error) {
	rows, err := s.db.Query(ctx, `
		UPDATE sessions SET revoke_time = $1 WHERE revoke_time IS NULL AND `+which+`
		RETURNING id, access_expire`, db.Micros(now), value)
	if err != nil {
		return nil, fmt.Errorf("revoke sessions of %s: %w", value, err)
	}
	defer rows.Close()
	var all []ended
	for rows.Next() {
		var e ended
		var until int64
		if err := rows.Scan(&e.session, &until); err != nil {
			return nil, fmt.Errorf("revoke sessions of %s: %w", value, err)
		}
		e.until = db.Time(until)
		all = append(all, e)
	}
	return all, rows.Err()
}

func (s *store) addToken(ctx context.Context, hash []byte, session string, end time.Time) error {
	_, err := s.db.Exec(ctx, `INSERT INTO refresh_tokens (hash, session_id, expire_time) VALUES ($1, $2, $3)`,
		hash, session, db.Micros(end))
	if err != nil {
		return fmt.Errorf("add token of session %s: %w", session, err)
	}
	return nil
}

// spend spends a refresh token on a request and returns its session: "" if it
// can't be spent. Of several requests that try at once, one does.
func (s *store) spend(ctx context.Context, hash, request []byte, now time.Time) (session string, err error) {
	err = s.db.Row(ctx, `
		UPDATE refresh_tokens SET spend_time = $2, spend_hash = $3
		WHERE hash = $1 AND spend_time IS NULL AND expire_time > $4
		RETURNING session_id`, hash, db.Micros(now), request, db.Micros(now)).Scan(&session)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("spend refresh token: %w", err)
	}
	return session, nil
}

// token returns what is known of a refresh token; without a session if nothing is.
func (s *store) token(ctx context.Context, hash []byte) (refreshToken, error) {
	var t refreshToken
	var spent sql.NullInt64
	err := s.db.Row(ctx, `
		SELECT s.id, s.user_id, s.revoke_time IS NOT NULL, t.spend_time, t.spend_hash
		FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = $1`, hash).
		Scan(&t.session, &t.user, &t.revoked, &spent, &t.request)
	if errors.Is(err, sql.ErrNoRows) {
		return refreshToken{}, nil
	}
	if err != nil {
		return refreshToken{}, fmt.Errorf("read refresh token: %w", err)
	}
	if spent.Valid {
		t.spent = db.Time(spent.Int64)
	}
	return t, nil
}

// dropExpired deletes what can't matter any more: refresh tokens that have
// expired, then sessions that have no other. It does so in steps, between which
// others can write.
func (s *store) dropExpired(ctx context.Context, now time.Time) error {
	const step = 1000
	for _, statement := range []string{
		`DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expire_time < $1 LIMIT $2)`,
		`DELETE FROM sessions WHERE id IN (
			SELECT s.id FROM sessions s LEFT JOIN refresh_tokens t ON t.session_id = s.id
			WHERE s.expire_time < $1 AND t.hash IS NULL LIMIT $2)`,
	} {
		for n := int64(step); n == step; {
			var err error
			if n, err = s.db.Exec(ctx, statement, db.Micros(now), step); err != nil {
				return fmt.Errorf("drop expired sessions: %w", err)
			}
		}
	}
	return nil
}
