// Package auth knows who the end user of a call is.
//
// The user service signs short-lived access tokens (JWT, RFC 7519, ES256) and
// publishes the public keys; every other process verifies them with those keys
// and asks nobody. What it can't see in a token, that the sign-in was ended, it
// hears as an event and keeps in [Revocations].
package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// Issuer and Audience are the "iss" and "aud" of every token of the shop.
const (
	Issuer   = "meshmart"
	Audience = "meshmart"
)

// The roles there are.
const (
	RoleUser  = "user"
	RoleAdmin = "admin"
)

// The reasons of the faults with which a token is refused.
const (
	ReasonInvalid = "TOKEN_INVALID"
	ReasonExpired = "TOKEN_EXPIRED"
	ReasonRevoked = "TOKEN_REVOKED"
)

// Principal is the verified user of a call. It is shared by all calls that
// bring the same token, and so never changed.
type Principal struct {
	Subject string    // the user's id
	Roles   []string  // what they are, such as RoleAdmin
	Session string    // the sign-in that the token belongs to
	Expires time.Time // when the token ends
}

// Admin reports whether the user may do everything. Nobody (nil) may not.
func (p *Principal) Admin() bool {
	return p != nil && slices.Contains(p.Roles, RoleAdmin)
}

// MayRead reports whether the user may see what belongs to owner, a user's id:
// it is their own, or they are an administrator. What has no owner is no
// user's own.
func (p *Principal) MayRead(owner string) bool {
	return p.Admin() || p != nil && owner != "" && p.Subject == owner
}

type principalKey struct{}

// With returns a context that carries p.
func With(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the verified user of the call, and whether there is one.
func From(ctx context.Context) (*Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(*Principal)
	return p, ok && p != nil
}

// Bearer returns the token in the "authorization" metadata of an incoming call
// (RFC 6750, section 2.1), and whether there is such metadata at all. Another
// scheme, no token, or more than one header is a fault, TOKEN_INVALID: two
// proxies that read two different ones of them would see two different users.
func Bearer(ctx context.Context) (string, bool, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", true, fault.Unauthenticated(ReasonInvalid, "more than one authorization header")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimLeft(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return "", true, fault.Unauthenticated(ReasonInvalid, `the authorization header must be "Bearer" and a token`)
	}
	return token, true, nil
}
