package auth

import (
	"context"
	"time"

	"google.golang.org/grpc"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

// This file is the runtime's one tie to a service: tokens come from the user
// service, so its contract says how keys and revocations are published.

// MaxLifetime is the longest that an access token may live. A revocation that
// doesn't say until when it matters is kept this long.
const MaxLifetime = 24 * time.Hour

// RevokedSubject is the subject of the event that ends a sign-in,
// userpb.SessionRevoked.
const RevokedSubject = "user.session_revoked"

// UserKeys returns the keys that the user service at conn publishes.
func UserKeys(conn grpc.ClientConnInterface, clock func() time.Time) *RemoteKeys {
	client := userpb.NewAuthServiceClient(conn)
	return NewRemoteKeys(func(ctx context.Context) ([]JWK, error) {
		r, err := client.GetJwks(ctx, &userpb.GetJwksRequest{})
		if err != nil {
			return nil, err
		}
		keys := make([]JWK, 0, len(r.GetKeys()))
		for _, k := range r.GetKeys() {
			keys = append(keys, FromProto(k))
		}
		return keys, nil
	}, clock)
}

// FromProto returns k as the contract of the user service writes it.
func FromProto(k *userpb.JsonWebKey) JWK {
	return JWK{
		Kty: k.GetKty(), Crv: k.GetCrv(), X: k.GetX(), Y: k.GetY(),
		Use: k.GetUse(), Alg: k.GetAlg(), Kid: k.GetKid(),
	}
}

// Proto returns k as the contract of the user service writes it.
func (k JWK) Proto() *userpb.JsonWebKey {
	return &userpb.JsonWebKey{Kty: k.Kty, Crv: k.Crv, X: k.X, Y: k.Y, Use: k.Use, Alg: k.Alg, Kid: k.Kid}
}

// Apply ends the session that the event user.session_revoked names. Applying
// it again changes nothing.
func (r *Revocations) Apply(m *userpb.SessionRevoked) {
	if m.GetSessionId() == "" {
		return
	}
	until := r.clock().Add(MaxLifetime)
	if m.GetExpireTime().IsValid() {
		until = m.GetExpireTime().AsTime()
	}
	r.Add(m.GetSessionId(), until)
}
