package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// fixedKey returns the same key in every run, so that a token that was found
// says the same when it is tried again.
func fixedKey(t testing.TB, seed byte) *ecdsa.PrivateKey {
	t.Helper()
	d := sha256.Sum256([]byte{seed})
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fixedDesk is a desk whose key is fixed, and which remembers nothing.
func fixedDesk(t testing.TB) *desk {
	d := newDesk(t)
	d.key = fixedKey(t, 1)
	d.keys.(KeySet)["k1"] = &d.key.PublicKey
	return d
}

// FuzzVerify tries tokens that nobody signed.
func FuzzVerify(f *testing.F) {
	d := fixedDesk(f)
	good := d.sign(f, ann())
	signed := good[:strings.LastIndexByte(good, '.')]
	f.Add(good[:len(good)-2])
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(forge(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, claims(nil)))
	f.Add(forge(f, jwt.SigningMethodHS256, []byte("key"), nil, claims(nil)))
	f.Add(forge(f, jwt.SigningMethodES256, fixedKey(f, 2), nil, claims(nil)))
	f.Fuzz(func(t *testing.T, token string) {
		p, err := d.Verify(t.Context(), token)
		if err == nil && token[:strings.LastIndexByte(token, '.')] != signed {
			t.Errorf("%q is %+v", token, p)
		}
		if err != nil && fault.Code(err) != codes.Unauthenticated {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// Who signs the tokens of FuzzSigned.
const (
	byUs       = iota // with our key
	byStranger        // with another one
	byHMAC            // with our public key as the secret
	byNobody          // not at all
	signers
)

// FuzzSigned tries any header and any claims, signed by us and by others. What
// others signed is refused whatever it says; what we signed is accepted only if
// it is complete, in time and for this shop.
func FuzzSigned(f *testing.F) {
	ours, stranger := fixedKey(f, 1), fixedKey(f, 2)
	point, err := ours.PublicKey.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, payload string, signer uint8) {
		d := fixedDesk(t)
		enc := base64.RawURLEncoding.EncodeToString
		text := enc([]byte(header)) + "." + enc([]byte(payload))
		var sig []byte
		var err error
		switch signer % signers {
		case byUs:
			sig, err = jwt.SigningMethodES256.Sign(text, ours)
		case byStranger:
			sig, err = jwt.SigningMethodES256.Sign(text, stranger)
		case byHMAC:
			sig, err = jwt.SigningMethodHS256.Sign(text, point)
		}
		if err != nil {
			t.Fatal(err)
		}
		token := text + "." + enc(sig)
		p, err := d.Verify(t.Context(), token)
		if err != nil {
			if fault.Code(err) != codes.Unauthenticated || fault.Reason(err) == "" {
				t.Errorf("%s %s: %v", header, payload, err)
			}
			return
		}
		if why := unacceptable(header, payload, signer%signers, p); why != "" {
			t.Errorf("%s %s, signed by %d: %s and it is %+v", header, payload, signer%signers, why, p)
		}
	})
}

// unacceptable says, without the library, why a token must not be taken for p.
func unacceptable(header, payload string, signer uint8, p *Principal) string {
	var h map[string]any
	var c struct {
		Iss, Sub, Sid string
		Aud           any
		Exp, Nbf      *json.Number // which the library reads from a text as well
		Roles         []string
	}
	if signer != byUs {
		return "it is not ours"
	}
	if json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(payload), &c) != nil {
		return "it can't be read"
	}
	_, crit := h["crit"]
	list, _ := c.Aud.([]any)
	switch {
	case h["alg"] != "ES256" || h["kid"] != "k1" || crit:
		return "the header is wrong"
	case c.Iss != Issuer || c.Aud != any(Audience) && !slices.Contains(list, any(Audience)):
		return "it is not of this shop"
	case c.Sub == "" || c.Sid == "" || c.Sub != p.Subject || c.Sid != p.Session || !cmp.Equal(c.Roles, p.Roles):
		return "it is another's"
	case number(c.Exp) <= float64(start.Unix()) || number(c.Nbf) > float64(start.Add(skew).Unix()):
		return "it is not its time"
	}
	return ""
}

// number is 0 for what is missing or none.
func number(n *json.Number) float64 {
	if n == nil {
		return 0
	}
	v, _ := n.Float64()
	return v
}

// FuzzBearer reads authorization headers.
func FuzzBearer(f *testing.F) {
	f.Fuzz(func(t *testing.T, first, second string, n uint8) {
		values := []string{first, second, first}[:n%4]
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{"authorization": values})
		token, present, err := Bearer(ctx)
		switch {
		case present != (len(values) > 0):
			t.Errorf("%q: present is %v", values, present)
		case err != nil && (token != "" || fault.Reason(err) != ReasonInvalid):
			t.Errorf("%q: %q, %v", values, token, err)
		case token != "" && (len(values) != 1 || strings.ContainsAny(token, " \t,") || !strings.HasSuffix(first, token)):
			t.Errorf("%q: %q", values, token)
		case present && err == nil && token == "":
			t.Errorf("%q: an empty token", values)
		}
	})
}

// FuzzJWK reads published keys: one that is taken is on the curve, for
// signatures, and published again as it was.
func FuzzJWK(f *testing.F) {
	good, err := NewJWK("k1", &fixedKey(f, 1).PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(strings.Replace(string(text), good.Y, good.X, 1))
	f.Fuzz(func(t *testing.T, text string) {
		var k JWK
		if json.Unmarshal([]byte(text), &k) != nil {
			return
		}
		key, err := k.PublicKey()
		if err != nil {
			return
		}
		again, err := NewJWK(k.Kid, key)
		if err != nil || again.X != k.X || again.Y != k.Y || again.Kid != k.Kid {
			t.Errorf("%s came back as %+v, %v", text, again, err)
		}
	})
}
