package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what the user service says in an access token. Times are kept to
// the second.
type Claims struct {
	Subject   string    // "sub", the user's id
	Session   string    // "sid", the sign-in; what a revocation names
	Roles     []string  // "roles"
	ID        string    // "jti", may be empty
	Issued    time.Time // "iat"
	NotBefore time.Time // "nbf"; zero: as Issued
	Expires   time.Time // "exp"
}

// wire is how the claims are written in a token.
type wire struct {
	jwt.RegisteredClaims
	Session string   `json:"sid"`
	Roles   []string `json:"roles,omitempty"`
}

// Sign returns an access token with the claims c, signed with key (P-256),
// which verifiers know as kid. The same claims give the same token. Incomplete
// claims are an error: no verifier would accept the token.
func Sign(key *ecdsa.PrivateKey, kid string, c Claims) (string, error) {
	if key == nil || key.Curve != elliptic.P256() || kid == "" || len(kid) > maxKid {
		return "", fmt.Errorf("sign token with key %q: %w", kid, errKey)
	}
	if c.Subject == "" || c.Session == "" || c.Issued.IsZero() || !c.Expires.After(c.Issued) {
		return "", fmt.Errorf("sign token for %q: incomplete claims", c.Subject)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = c.Issued
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, wire{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: Issuer, Audience: jwt.ClaimStrings{Audience}, Subject: c.Subject, ID: c.ID,
			IssuedAt: jwt.NewNumericDate(c.Issued), NotBefore: jwt.NewNumericDate(c.NotBefore),
			ExpiresAt: jwt.NewNumericDate(c.Expires),
		},
		Session: c.Session, Roles: c.Roles,
	})
	t.Header["kid"] = kid
	token, err := signed(t, key)
	if err != nil {
		return "", fmt.Errorf("sign token for %q: %w", c.Subject, err)
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("sign token for %q: longer than %d bytes", c.Subject, maxToken)
	}
	return token, nil
}

// signed returns the token with its signature, which is that of RFC 6979: without
// chance in it, so that a sign-in which is repeated is answered alike.
func signed(t *jwt.Token, key *ecdsa.PrivateKey) (string, error) {
	text, err := t.SigningString()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(text))
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return "", err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return "", err
	}
	raw := make([]byte, 64) // RFC 7518, section 3.4
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return text + "." + t.EncodeSegment(raw), nil
}

var errKey = errors.New("not a P-256 key with an id")
