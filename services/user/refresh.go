package user

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// replayed is how long a Refresh can be repeated with the request_id that spent
// the token.
const replayed = time.Minute

// successor returns the token that replaces one, which the same request gets
// again: nothing of it is kept in clear. A request without an id can't be
// repeated.
func successor(secret []byte, token, requestID string) string {
	if requestID == "" {
		return encode(random(sha256.Size))
	}
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "%d %s %s", len(token), token, requestID)
	return encode(m.Sum(nil))
}

// spendHash is what is kept of the request that spent a token; nil for one
// without an id. With the id itself, whoever has read the database could
// compute the successors of a stolen token.
func spendHash(token, requestID string) []byte {
	if requestID == "" {
		return nil
	}
	return tokenHash(fmt.Sprintf("%d %s %s", len(token), token, requestID))
}

// renew exchanges a refresh token for new tokens.
func (s *sessions) renew(ctx context.Context, token, requestID string) (tokens, error) {
	ring, err := s.keys.current(ctx)
	if err != nil {
		return tokens{}, err
	}
	var o outcome
	err = s.store.inTx(ctx, func(tx *store) error {
		o = outcome{grant: grant{issued: s.clock(), refresh: successor(ring.secret, token, requestID)}}
		session, err := tx.spend(ctx, tokenHash(token), spendHash(token, requestID), o.issued)
		if err != nil {
			return err
		}
		if session == "" {
			return s.again(ctx, tx, &o, token, requestID)
		}
		return s.extend(ctx, tx, &o.grant, session)
	})
	if err != nil {
		return tokens{}, err
	}
	if o.theft {
		s.refuse(o.ends)
		return tokens{}, fault.Unauthenticated("TOKEN_REUSED", "the refresh token was used before: every token of this sign-in is revoked")
	}
	return s.issue(ring, o.grant)
}

// outcome is what comes of a refresh. A theft is no error in the transaction:
// the revocation must last.
type outcome struct {
	grant
	theft bool
	ends  []ended
}

// extend writes down what g gives to the session whose token was just spent.
func (s *sessions) extend(ctx context.Context, tx *store, g *grant, session string) error {
	user, err := tx.extendSession(ctx, session, s.accessEnd(*g), s.refreshEnd(*g))
	if err != nil {
		return err
	}
	if user == "" {
		return sessionRevoked()
	}
	if g.user, err = tx.user(ctx, user); err != nil {
		return err
	}
	g.session = session
	return tx.addToken(ctx, tokenHash(g.refresh), session, s.refreshEnd(*g))
}

// again decides about a token that can't be spent. The request that spent it is
// answered once more; if that was another request, one of the two who have the
// token is a thief, and the session ends for both.
func (s *sessions) again(ctx context.Context, tx *store, o *outcome, token, requestID string) error {
	t, err := tx.token(ctx, tokenHash(token))
	if err != nil {
		return err
	}
	now := o.issued
	switch {
	case t.session == "":
		return fault.Unauthenticated(auth.ReasonInvalid, "the refresh token is not valid")
	case !t.spent.IsZero() && !t.spentBy(spendHash(token, requestID), now):
		o.theft = true
		o.ends, err = s.end(ctx, tx, t.session, now)
		return err
	case t.revoked:
		return sessionRevoked()
	case t.spent.IsZero():
		return fault.Unauthenticated(auth.ReasonExpired, "the refresh token has expired: sign in again")
	}
	o.session, o.issued = t.session, t.spent
	o.user, err = tx.user(ctx, t.user)
	if err == nil {
		idem.Replayed(ctx)
	}
	return err
}

// refreshToken is what is known of a refresh token.
type refreshToken struct {
	session, user string
	revoked       bool      // the session
	spent         time.Time // zero: it was not
	request       []byte    // the spendHash of the request that spent it
}

// spentBy reports whether the token was spent by this request, a moment ago.
func (t refreshToken) spentBy(request []byte, now time.Time) bool {
	return request != nil && hmac.Equal(request, t.request) && now.Sub(t.spent) < replayed
}

func sessionRevoked() error {
	return fault.Unauthenticated(auth.ReasonRevoked, "the sign-in has ended: sign in again")
}
