package user

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/fault"
)

func TestLoginGivesTokensThatHold(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("Ann@Example.com")
		r, err := h.auth.Login(t.Context(), &userpb.LoginRequest{Email: "  ANN@example.com ", Password: password})
		if err != nil {
			t.Fatal(err)
		}
		if r.GetTokenType() != "Bearer" || r.GetExpiresIn() != 900 {
			t.Errorf("got %s, %d s", r.GetTokenType(), r.GetExpiresIn())
		}
		me, err := h.me(r.GetAccessToken())
		if err != nil || me.GetId() != ann.GetId() {
			t.Errorf("got %v, %v", me, err)
		}
		v, err := h.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: r.GetAccessToken()})
		if err != nil {
			t.Fatal(err)
		}
		if end := h.watch.time().Add(15 * time.Minute); v.GetUserId() != ann.GetId() || v.GetSessionId() == "" ||
			!cmp.Equal(v.GetRoles(), []string{auth.RoleUser}) || !v.GetExpireTime().AsTime().Equal(end) {
			t.Errorf("got %v", v)
		}
	})
}

func TestWrongEmailAndWrongPasswordAreToldAlike(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		var told []string
		for _, r := range []*userpb.LoginRequest{
			{Email: "ann@example.com", Password: password + "!"},
			{Email: "nobody@example.com", Password: password},
			{Email: "no email at all", Password: "x"},
			{Email: "ann@example.com\x00", Password: password},
			{Email: "' OR 1=1 --", Password: password},
		} {
			_, err := h.auth.Login(t.Context(), r)
			refused(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
			told = append(told, status.Convert(err).Proto().String())
		}
		for _, s := range told[1:] {
			if s != told[0] {
				t.Errorf("told apart: %s and %s", told[0], s)
			}
		}
	})
}

func TestLoginReplacesAnOutdatedHash(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("ann@example.com")
		d := h.database()
		weak, err := newPasswords(cost{memory: 64, passes: 1, threads: 1}).hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Exec(t.Context(), `UPDATE users SET password = $1 WHERE id = $2`, weak, ann.GetId()); err != nil {
			t.Fatal(err)
		}
		var hashes []string
		for range 2 {
			h.login("ann@example.com")
			var hash string
			if err := d.Row(t.Context(), `SELECT password FROM users WHERE id = $1`, ann.GetId()).Scan(&hash); err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, hash)
		}
		if c, _, _, err := readPHC(hashes[0]); err != nil || c != standard {
			t.Errorf("got %+v, %v", c, err)
		}
		if hashes[0] != hashes[1] {
			t.Error("a hash that is up to date was replaced")
		}
	})
}

func TestAccessTokenExpires(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		token := h.login("ann@example.com").GetAccessToken()
		h.watch.forward(15*time.Minute - time.Second)
		if _, err := h.me(token); err != nil {
			t.Error(err)
		}
		h.watch.forward(time.Second)
		_, err := h.me(token)
		refused(t, err, codes.Unauthenticated, auth.ReasonExpired)
		_, err = h.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: token})
		refused(t, err, codes.Unauthenticated, auth.ReasonExpired)
	})
}

// publicKey returns the key that the service signs with, as anybody can.
func (h *house) publicKey() (string, *ecdsa.PublicKey) {
	h.t.Helper()
	r, err := h.auth.GetJwks(h.t.Context(), &userpb.GetJwksRequest{})
	if err != nil || len(r.GetKeys()) != 1 {
		h.t.Fatal(r, err)
	}
	key, err := auth.FromProto(r.GetKeys()[0]).PublicKey()
	if err != nil {
		h.t.Fatal(err)
	}
	return r.GetKeys()[0].GetKid(), key
}

func TestForgedTokensAreRefused(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		good := h.login("ann@example.com").GetAccessToken()
		kid, public := h.publicKey()
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		forge := func(m jwt.SigningMethod, key any, kid string) string {
			claims := jwt.MapClaims{}
			if _, _, err := jwt.NewParser().ParseUnverified(good, claims); err != nil {
				t.Fatal(err)
			}
			claims["roles"] = []string{auth.RoleAdmin}
			token := jwt.NewWithClaims(m, claims)
			token.Header["kid"] = kid
			s, err := token.SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		for name, token := range map[string]string{
			"none":            forge(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid),
			"HS256, PEM":      forge(jwt.SigningMethodHS256, pemKey, kid),
			"HS256, DER":      forge(jwt.SigningMethodHS256, der, kid),
			"another key":     forge(jwt.SigningMethodES256, other, kid),
			"an unknown key":  forge(jwt.SigningMethodES256, other, "unknown"),
			"no signature":    good[:strings.LastIndexByte(good, '.')+1],
			"a refresh token": h.login("ann@example.com").GetRefreshToken(),
		} {
			_, err := h.me(token)
			refused(t, err, codes.Unauthenticated, auth.ReasonInvalid)
			_, err = h.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: token})
			refused(t, err, codes.Unauthenticated, auth.ReasonInvalid)
			if t.Failed() {
				t.Fatal(name)
			}
		}
		if _, err := h.me(good); err != nil {
			t.Error(err)
		}
	})
}

func TestLogoutEndsOneSession(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		phone, desk := h.login("ann@example.com"), h.login("ann@example.com")
		spent := phone.GetRefreshToken()
		phoneNow := h.mustRenew(spent, uuid.NewString())
		h.watch.forward(time.Minute)
		for range 3 {
			for _, token := range []string{phoneNow.GetRefreshToken(), spent, "unknown"} {
				if _, err := h.auth.Logout(t.Context(), &userpb.LogoutRequest{RefreshToken: token}); err != nil {
					t.Error(err)
				}
			}
		}
		_, err := h.me(phoneNow.GetAccessToken())
		refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		_, err = h.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: phoneNow.GetAccessToken()})
		refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		_, err = h.renew(phoneNow.GetRefreshToken(), uuid.NewString())
		refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		if _, err := h.me(desk.GetAccessToken()); err != nil {
			t.Error(err)
		}
		h.mustRenew(desk.GetRefreshToken(), uuid.NewString())

		got := h.announced(auth.RevokedSubject, 1, &userpb.SessionRevoked{})[0].(*userpb.SessionRevoked)
		if want := h.watch.time().Add(15 * time.Minute); !got.GetExpireTime().AsTime().Equal(want) ||
			got.GetSessionId() != claimsOf(t, phone.GetAccessToken())["sid"] {
			t.Errorf("announced %v, want until %v", got, want)
		}
	})
}

func TestReplicasShareKeysAndRevocations(t *testing.T) {
	h := open(t, dbtest.Postgres(t), nil)
	other := h.replica()
	h.join("ann@example.com")
	r := h.login("ann@example.com")
	if _, err := other.me(r.GetAccessToken()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.auth.Logout(t.Context(), &userpb.LogoutRequest{RefreshToken: r.GetRefreshToken()}); err != nil {
		t.Fatal(err)
	}
	_, err := other.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: r.GetAccessToken()})
	refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for { // until the event has come
		if _, err = other.me(r.GetAccessToken()); err != nil || ctx.Err() != nil {
			break
		}
	}
	refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
}

func TestExpiredSessionsArePruned(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		old := h.login("ann@example.com")
		h.watch.forward(time.Hour)
		h.mustRenew(h.login("ann@example.com").GetRefreshToken(), uuid.NewString())
		s := &sessions{store: &store{h.database()}, clock: h.watch.time}
		for _, step := range []struct {
			pass             time.Duration
			sessions, tokens int
		}{{0, 2, 3}, {719*time.Hour + time.Second, 1, 2}, {time.Hour, 0, 0}} {
			h.watch.forward(step.pass)
			if err := s.prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			sessions, tokens := h.count(`SELECT COUNT(*) FROM sessions`), h.count(`SELECT COUNT(*) FROM refresh_tokens`)
			if sessions != step.sessions || tokens != step.tokens {
				t.Errorf("%v later: %d sessions, %d tokens, want %d, %d", step.pass, sessions, tokens, step.sessions, step.tokens)
			}
		}
		_, err := h.renew(old.GetRefreshToken(), uuid.NewString())
		refused(t, err, codes.Unauthenticated, auth.ReasonInvalid)
	})
}

// TestNothingSecretIsLoggedOrKept follows secrets through a day's work, then
// looks for them where they must not be.
func TestNothingSecretIsLoggedOrKept(t *testing.T) {
	h := open(t, dbtest.SQLite(t), map[string]string{"LOG_LEVEL": "debug", "ADMIN_PASSWORD": "the administrator's"})
	h.join("ann@example.com")
	id := uuid.NewString()
	a := h.login("ann@example.com")
	b := h.mustRenew(a.GetRefreshToken(), id)
	h.mustRenew(a.GetRefreshToken(), id)
	_, errs := race(3, func(i int) (proto.Message, error) {
		switch i {
		case 0:
			return h.auth.Login(t.Context(), &userpb.LoginRequest{Email: "ann@example.com", Password: "a wrong password"})
		case 1:
			return h.renew(a.GetRefreshToken(), uuid.NewString())
		default:
			return h.me("eyJ.not-a-token." + b.GetRefreshToken())
		}
	})
	for _, err := range errs {
		if status.Code(err) != codes.Unauthenticated {
			t.Error(err)
		}
	}
	_, _ = h.auth.ValidateToken(t.Context(), &userpb.ValidateTokenRequest{AccessToken: b.GetAccessToken()})
	_, _ = h.auth.Logout(t.Context(), &userpb.LogoutRequest{RefreshToken: b.GetRefreshToken()})
	if !strings.Contains(h.log.String(), "AuthService/Login") {
		t.Fatal("nothing is logged")
	}
	file, err := os.ReadFile(h.url)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(h.url + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	kept := string(file) + string(wal)
	if !strings.Contains(kept, "ann@example.com") {
		t.Fatal("the database is elsewhere")
	}
	for name, secret := range map[string]string{
		"password": password, "wrong password": "a wrong password", "administrator's password": "the administrator's",
		"access token": a.GetAccessToken(), "signature": b.GetAccessToken()[strings.LastIndexByte(b.GetAccessToken(), '.')+1:],
		"refresh token": a.GetRefreshToken(), "its successor": b.GetRefreshToken(),
	} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("%s in the log", name)
		}
		if strings.Contains(kept, secret) {
			t.Errorf("%s in the database", name)
		}
	}
	if strings.Contains(h.log.String(), "ann@example.com") {
		t.Error("email in the log")
	}
	if strings.Contains(kept, id) && h.count(`SELECT COUNT(*) FROM refresh_tokens WHERE spend_hash IS NOT NULL`) > 0 {
		t.Error("the request id of a refresh is kept, from which with the token its successor follows")
	}
	if fault.Reason(fault.FromStatus(errs[1])) != "TOKEN_REUSED" {
		t.Error(errs[1])
	}
}
