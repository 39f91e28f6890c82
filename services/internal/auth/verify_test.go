package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// start is when the tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// desk signs tokens and verifies them at a time of its own.
type desk struct {
	*Verifier
	now     time.Time
	key     *ecdsa.PrivateKey
	revoked *Revocations
}

func newDesk(t testing.TB) *desk {
	d := &desk{now: start, key: newKey(t, elliptic.P256())}
	clock := func() time.Time { return d.now }
	d.revoked = NewRevocations(clock)
	d.Verifier = NewVerifier(KeySet{"k1": &d.key.PublicKey}, d.revoked, clock)
	return d
}

func ann() Claims {
	return Claims{
		Subject: "ann", Session: "s1", Roles: []string{RoleUser}, ID: "t1",
		Issued: start, Expires: start.Add(15 * time.Minute),
	}
}

func (d *desk) sign(t testing.TB, c Claims) string {
	t.Helper()
	token, err := Sign(d.key, "k1", c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forge signs whatever it is given.
func forge(t testing.TB, m jwt.SigningMethod, key any, header map[string]any, claims jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	token.Header["kid"] = "k1"
	for k, v := range header {
		token.Header[k] = v
		if v == nil {
			delete(token.Header, k)
		}
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claims returns good claims, changed; nil removes one.
func claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": Issuer, "aud": Audience, "sub": "ann", "sid": "s1", "roles": []string{RoleUser},
		"iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(15 * time.Minute).Unix(),
	}
	for k, v := range change {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func refused(t *testing.T, d *desk, token, reason string) {
	t.Helper()
	p, err := d.Verify(t.Context(), token)
	if p != nil || fault.Code(err) != codes.Unauthenticated || fault.Reason(err) != reason {
		t.Errorf("got %+v, %v (%s), want %s", p, err, fault.Reason(err), reason)
	}
}

func TestSignedTokenIsVerified(t *testing.T) {
	d := newDesk(t)
	want := &Principal{Subject: "ann", Roles: []string{RoleUser}, Session: "s1", Expires: start.Add(15 * time.Minute)}
	token := d.sign(t, ann())
	for range 2 { // uncached, cached
		got, err := d.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want, cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestTokenEndsOnTimeCachedOrNot(t *testing.T) {
	d := newDesk(t)
	token := d.sign(t, ann())
	d.now = start.Add(15*time.Minute - time.Second)
	if _, err := d.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	d.now = start.Add(15 * time.Minute)
	refused(t, d, token, ReasonExpired)
	d.cache = newCache(maxCached)
	refused(t, d, token, ReasonExpired)
	d.now = start.Add(time.Hour)
	refused(t, d, token, ReasonExpired)
	if d.cache.len() != 0 {
		t.Errorf("%d tokens remembered that were refused", d.cache.len())
	}
}

func TestTokenOfTheFutureIsRefusedButForSkew(t *testing.T) {
	d := newDesk(t)
	token := d.sign(t, ann())
	d.now = start.Add(-skew)
	if _, err := d.Verify(t.Context(), token); err != nil {
		t.Errorf("a clock %v behind: %v", skew, err)
	}
	d = newDesk(t)
	token = d.sign(t, ann())
	d.now = start.Add(-skew - time.Second)
	refused(t, d, token, ReasonInvalid)
}

func TestWrongClaimsAreRefused(t *testing.T) {
	d := newDesk(t)
	for name, change := range map[string]map[string]any{
		"another issuer": {"iss": "evil"}, "no issuer": {"iss": nil},
		"another audience": {"aud": "evil"}, "no audience": {"aud": nil}, "empty audience": {"aud": []string{}},
		"no end": {"exp": nil}, "end is text": {"exp": "tomorrow"}, "end is null": {"exp": []any{}},
		"no user": {"sub": nil}, "user is a number": {"sub": 7}, "no session": {"sid": nil},
		"roles are text": {"roles": RoleAdmin}, "begins tomorrow": {"nbf": start.Add(24 * time.Hour).Unix()},
		"expired and another issuer": {"exp": start.Unix() - 1, "iss": "evil"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, d, forge(t, jwt.SigningMethodES256, d.key, nil, claims(change)), ReasonInvalid)
		})
	}
	// The table is worth something only if the unchanged one is accepted.
	if _, err := d.Verify(t.Context(), forge(t, jwt.SigningMethodES256, d.key, nil, claims(nil))); err != nil {
		t.Error(err)
	}
}

func TestWrongHeadersAreRefused(t *testing.T) {
	d := newDesk(t)
	for name, header := range map[string]map[string]any{
		"no kid": {"kid": nil}, "empty kid": {"kid": ""}, "unknown kid": {"kid": "k2"}, "kid is a number": {"kid": 1},
		"kid of 129 bytes": {"kid": strings.Repeat("k", maxKid+1)}, "critical extension": {"crit": []string{"b64"}},
		"no alg": {"alg": nil}, "unknown alg": {"alg": "ES257"}, "alg in lower case": {"alg": "es256"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, d, forge(t, jwt.SigningMethodES256, d.key, header, claims(nil)), ReasonInvalid)
		})
	}
}

func TestForgedSignaturesAreRefused(t *testing.T) {
	d := newDesk(t)
	der, err := x509.MarshalPKIXPublicKey(&d.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	point, err := d.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	d.keys.(KeySet)["p384"] = &p384.PublicKey
	good := d.sign(t, ann())
	parts := strings.Split(good, ".")
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root","roles":["admin"]}`))
	c := claims(nil)
	for name, token := range map[string]string{
		"none":              forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, c),
		"none, ES256 said":  parts[0] + "." + parts[1] + ".",
		"HS256, PEM":        forge(t, jwt.SigningMethodHS256, text, nil, c),
		"HS256, DER":        forge(t, jwt.SigningMethodHS256, der, nil, c),
		"HS256, raw":        forge(t, jwt.SigningMethodHS256, point, nil, c),
		"HS256, ES256 said": forge(t, jwt.SigningMethodHS256, text, map[string]any{"alg": "ES256"}, c),
		"another key":       forge(t, jwt.SigningMethodES256, other, nil, c),
		"ES384, P-384":      forge(t, jwt.SigningMethodES384, p384, map[string]any{"kid": "p384"}, c),
		"another payload":   parts[0] + "." + payload + "." + parts[2],
		"half a signature":  parts[0] + "." + parts[1] + "." + parts[2][:43],
		"zero signature":    parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86),
		"padded":            good + "==",
		"four parts":        good + ".e30",
		"empty":             "", "dots": "..", "spaces": " " + good,
		"too long": good + strings.Repeat("A", maxToken),
	} {
		t.Run(name, func(t *testing.T) { refused(t, d, token, ReasonInvalid) })
	}
}

func TestRevokedSessionIsRefusedEvenWhenCached(t *testing.T) {
	d := newDesk(t)
	token := d.sign(t, ann())
	if _, err := d.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	d.revoked.Add("s1", start.Add(15*time.Minute))
	refused(t, d, token, ReasonRevoked)
	other := ann()
	other.ID = "t2"
	refused(t, d, d.sign(t, other), ReasonRevoked)
	other.Session = "s2"
	if _, err := d.Verify(t.Context(), d.sign(t, other)); err != nil {
		t.Error(err)
	}
}

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := newCache(100)
	used := idOf("used")
	c.put(used, &Principal{Subject: "used"})
	for i := range 1000 {
		c.put(idOf(fmt.Sprint(i)), &Principal{})
		if _, ok := c.get(used); !ok {
			t.Fatalf("dropped after %d others", i)
		}
		if c.len() > 100 {
			t.Fatalf("%d tokens kept", c.len())
		}
	}
	if _, ok := c.get(idOf("0")); ok {
		t.Error("a token is kept that nobody used for long")
	}
}

func TestTokensAreVerifiedAtOnceByMany(t *testing.T) {
	d := newDesk(t)
	d.cache = newCache(4) // so that tokens come and go
	var g sync.WaitGroup
	for i := range 8 {
		c := ann()
		c.Subject = fmt.Sprint("user", i)
		token := d.sign(t, c)
		g.Go(func() {
			for range 50 {
				if p, err := d.Verify(t.Context(), token); err != nil || p.Subject != c.Subject {
					t.Errorf("got %+v, %v, want %s", p, err, c.Subject)
				}
			}
		})
	}
	g.Wait()
}

func TestSignRefusesWhatNobodyWouldVerify(t *testing.T) {
	d := newDesk(t)
	for name, sign := range map[string]func() (string, error){
		"no kid":     func() (string, error) { return Sign(d.key, "", ann()) },
		"no key":     func() (string, error) { return Sign(nil, "k1", ann()) },
		"P-384":      func() (string, error) { return Sign(newKey(t, elliptic.P384()), "k1", ann()) },
		"no claims":  func() (string, error) { return Sign(d.key, "k1", Claims{}) },
		"no session": func() (string, error) { c := ann(); c.Session = ""; return Sign(d.key, "k1", c) },
		"no life":    func() (string, error) { c := ann(); c.Expires = c.Issued; return Sign(d.key, "k1", c) },
		"too long":   func() (string, error) { c := ann(); c.ID = strings.Repeat("i", maxToken); return Sign(d.key, "k1", c) },
	} {
		if token, err := sign(); err == nil {
			t.Errorf("%s: got %s", name, token)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	d := newDesk(b)
	token := d.sign(b, ann())
	b.Run("uncached", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.parse(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestSameClaimsGiveTheSameToken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	v := NewVerifier(KeySet{"k": &key.PublicKey}, nil, time.Now)
	for i := range 500 { // a number in a signature may be short
		c := Claims{Subject: "u", Session: "s", ID: strings.Repeat("x", i), Issued: now, Expires: now.Add(time.Minute)}
		first, err := Sign(key, "k", c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Sign(key, "k", c); err != nil || again != first {
			t.Fatalf("got %q, %v; want %q", again, err, first)
		}
		if _, err := v.Verify(t.Context(), first); err != nil {
			t.Fatalf("a token of ours is refused: %v", err)
		}
	}
}
