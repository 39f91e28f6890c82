package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	maxToken  = 8 << 10 // bytes; a longer token is refused unread
	maxKid    = 128     // bytes of the id of a key
	maxCached = 10_000  // verified tokens kept

	// skew is how far the clock of the user service may be ahead: a token is
	// used at once, and is not to be refused as one from the future. A token
	// ends on time.
	skew = 5 * time.Second
)

// Keys knows the public keys that tokens are signed with. Key returns
// ErrUnknownKey if there is no such key; with any other error the answer isn't
// known, and the token neither good nor bad.
type Keys interface {
	Key(ctx context.Context, kid string) (*ecdsa.PublicKey, error)
}

// ErrUnknownKey says that there is no key with this id.
var ErrUnknownKey = errors.New("unknown key")

// Verifier verifies access tokens. It is safe for concurrent use.
//
// Verified tokens are remembered until they expire, so that a signature is
// checked once for each token and process. Revocations are looked up each time.
// A key that is withdrawn takes no effect on the tokens remembered; they end
// by themselves, or by revocation.
type Verifier struct {
	keys    Keys
	revoked *Revocations
	clock   func() time.Time
	parser  *jwt.Parser
	cache   *cache
}

// NewVerifier returns a verifier of tokens signed with keys. With revoked nil
// no token is ever revoked.
func NewVerifier(keys Keys, revoked *Revocations, clock func() time.Time) *Verifier {
	return &Verifier{
		keys: keys, revoked: revoked, clock: clock,
		cache: newCache(maxCached),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
			jwt.WithIssuer(Issuer), jwt.WithAudience(Audience),
			jwt.WithExpirationRequired(), jwt.WithLeeway(skew),
			jwt.WithTimeFunc(clock), jwt.WithStrictDecoding(),
		),
	}
}

// Verify returns whose token it is. A token that isn't accepted is an
// UNAUTHENTICATED fault with reason TOKEN_EXPIRED, TOKEN_REVOKED, or
// TOKEN_INVALID for everything else; the error of the keys is returned as it is.
func (v *Verifier) Verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxToken {
		return nil, fault.Unauthenticated(ReasonInvalid, "the token is longer than %d bytes", maxToken)
	}
	id := idOf(token)
	p, cached := v.cache.get(id)
	if !cached {
		var err error
		if p, err = v.parse(ctx, token); err != nil {
			return nil, err
		}
	}
	switch {
	case !v.clock().Before(p.Expires):
		return nil, fault.Unauthenticated(ReasonExpired, "the token has expired")
	case v.revoked.Revoked(p.Session):
		return nil, fault.Unauthenticated(ReasonRevoked, "the token has been revoked")
	}
	if !cached {
		v.cache.put(id, p)
	}
	return p, nil
}

// parse checks everything in the token that does not change with time, and
// that it has begun.
func (v *Verifier) parse(ctx context.Context, token string) (*Principal, error) {
	var c wire
	var keyErr error
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		var key *ecdsa.PublicKey
		key, keyErr = v.key(ctx, t)
		return key, keyErr
	})
	switch {
	case keyErr != nil && !errors.Is(keyErr, ErrUnknownKey):
		return nil, keyErr
	case err == nil:
	case onlyExpired(err):
		return nil, fault.Unauthenticated(ReasonExpired, "the token has expired")
	default: // why is no business of whoever forged it
		return nil, fault.Unauthenticated(ReasonInvalid, "the token is not valid")
	}
	if c.Subject == "" || c.Session == "" {
		return nil, fault.Unauthenticated(ReasonInvalid, "the token names no user or no session")
	}
	return &Principal{Subject: c.Subject, Roles: c.Roles, Session: c.Session, Expires: c.ExpiresAt.Time}, nil
}

// key finds the key that the header of the token names. Nothing else in the
// header (jku, jwk, x5c) is a source of keys, and an extension that must be
// understood (crit, RFC 7515 section 4.1.11) isn't.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (*ecdsa.PublicKey, error) {
	kid, _ := t.Header["kid"].(string)
	if _, crit := t.Header["crit"]; crit || kid == "" || len(kid) > maxKid {
		return nil, ErrUnknownKey
	}
	key, err := v.keys.Key(ctx, kid)
	if err != nil {
		return nil, err
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key %s: %w", kid, ErrUnknownKey)
	}
	return key, nil
}

// onlyExpired reports whether the token was fine once: properly signed, and
// with nothing else wrong.
func onlyExpired(err error) bool {
	for _, other := range []error{
		jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid,
		jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenNotValidYet,
	} {
		if errors.Is(err, other) {
			return false
		}
	}
	return errors.Is(err, jwt.ErrTokenExpired)
}
