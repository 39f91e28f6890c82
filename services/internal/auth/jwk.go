package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
)

// JWK is a public P-256 key as it is published (RFC 7517; RFC 7518, section 6.2).
type JWK struct {
	Kty string `json:"kty"` // "EC"
	Crv string `json:"crv"` // "P-256"
	X   string `json:"x"`   // base64url without padding, 32 bytes
	Y   string `json:"y"`
	Use string `json:"use,omitempty"` // "sig"
	Alg string `json:"alg,omitempty"` // "ES256"
	Kid string `json:"kid"`
}

// coordinate is the length of x and y in bytes.
const coordinate = 32

// NewJWK returns the published form of key, which must be on P-256.
func NewJWK(kid string, key *ecdsa.PublicKey) (JWK, error) {
	if key == nil || key.Curve != elliptic.P256() || kid == "" || len(kid) > maxKid {
		return JWK{}, fmt.Errorf("publish key %q: %w", kid, errKey)
	}
	point, err := key.Bytes()
	if err != nil {
		return JWK{}, fmt.Errorf("publish key %q: %w", kid, err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return JWK{
		Kty: "EC", Crv: "P-256", Use: "sig", Alg: "ES256", Kid: kid,
		X: enc(point[1 : 1+coordinate]), Y: enc(point[1+coordinate:]),
	}, nil
}

// PublicKey returns the key. One of another kind or for another use, or whose
// point isn't on the curve, is an error.
func (k JWK) PublicKey() (*ecdsa.PublicKey, error) {
	if k.Kty != "EC" || k.Crv != "P-256" || k.Kid == "" || len(k.Kid) > maxKid ||
		k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != "ES256" {
		return nil, fmt.Errorf("read key %q: not for ES256 signatures", k.Kid)
	}
	point := append(make([]byte, 0, 1+2*coordinate), 4) // SEC 1, section 2.3.3: uncompressed
	for _, c := range []string{k.X, k.Y} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(c)
		if err != nil || len(b) != coordinate {
			return nil, fmt.Errorf("read key %q: a coordinate is not %d bytes of base64url", k.Kid, coordinate)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("read key %q: %w", k.Kid, err)
	}
	return key, nil
}

// KeySet is a fixed set of keys by id.
type KeySet map[string]*ecdsa.PublicKey

// Key implements Keys.
func (s KeySet) Key(_ context.Context, kid string) (*ecdsa.PublicKey, error) {
	if key, ok := s[kid]; ok {
		return key, nil
	}
	return nil, ErrUnknownKey
}
