package user

import (
	"errors"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
)

func TestRefreshSpendsTheOldToken(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		first := h.login("ann@example.com")
		h.watch.forward(10 * time.Minute)
		second := h.mustRenew(first.GetRefreshToken(), uuid.NewString())
		if second.GetRefreshToken() == first.GetRefreshToken() || second.GetExpiresIn() != 900 {
			t.Errorf("got %d s", second.GetExpiresIn())
		}
		for _, token := range []string{first.GetAccessToken(), second.GetAccessToken()} {
			if _, err := h.me(token); err != nil {
				t.Error(err)
			}
		}
		third := h.mustRenew(second.GetRefreshToken(), uuid.NewString())

		_, err := h.renew(first.GetRefreshToken(), uuid.NewString())
		refused(t, err, codes.Unauthenticated, "TOKEN_REUSED")
		_, err = h.renew(third.GetRefreshToken(), uuid.NewString())
		refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		for _, token := range []string{first.GetAccessToken(), third.GetAccessToken()} {
			_, err = h.me(token)
			refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		}
		_, err = h.renew(first.GetRefreshToken(), uuid.NewString())
		refused(t, err, codes.Unauthenticated, "TOKEN_REUSED")
		h.announced(auth.RevokedSubject, 1, &userpb.SessionRevoked{})
	})
}

// claimsOf returns what an access token says.
func claimsOf(t *testing.T, token string) jwt.MapClaims {
	t.Helper()
	c := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLostReplyOfRefreshIsGivenAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		old, id := h.login("ann@example.com").GetRefreshToken(), uuid.NewString()
		first := h.mustRenew(old, id)
		h.watch.forward(59 * time.Second)
		second := h.mustRenew(old, id)
		if first.GetRefreshToken() != second.GetRefreshToken() || second.GetExpiresIn() != 900-59 {
			t.Errorf("got another reply, %d s", second.GetExpiresIn())
		}
		if diff := cmp.Diff(claimsOf(t, second.GetAccessToken()), claimsOf(t, first.GetAccessToken())); diff != "" {
			t.Error(diff)
		}
		if _, err := h.me(second.GetAccessToken()); err != nil {
			t.Error(err)
		}
		h.mustRenew(second.GetRefreshToken(), uuid.NewString())

		h.watch.forward(time.Second)
		_, err := h.renew(old, id)
		refused(t, err, codes.Unauthenticated, "TOKEN_REUSED")
	})
}

func TestRefreshWithoutRequestIDIsNeverRepeated(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		old := h.login("ann@example.com").GetRefreshToken()
		h.mustRenew(old, "")
		_, err := h.renew(old, "")
		refused(t, err, codes.Unauthenticated, "TOKEN_REUSED")
	})
}

func TestOfTwoWhoSpendATokenOneWinsAndBothLose(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		for range 5 {
			token := h.login("ann@example.com").GetRefreshToken()
			replies, errs := race(2, func(int) (*userpb.RefreshResponse, error) { return h.renew(token, uuid.NewString()) })
			won := 0
			if errs[won] != nil {
				won = 1
			}
			if errs[won] != nil {
				t.Fatal(errs)
			}
			refused(t, errs[1-won], codes.Unauthenticated, "TOKEN_REUSED")
			_, err := h.renew(replies[won].GetRefreshToken(), uuid.NewString())
			refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
			_, err = h.me(replies[won].GetAccessToken())
			refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		}
		h.announced(auth.RevokedSubject, 5, &userpb.SessionRevoked{})
	})
}

func TestSameRefreshAtOnceIsAnsweredAlike(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		token, id := h.login("ann@example.com").GetRefreshToken(), uuid.NewString()
		replies, errs := race(8, func(int) (*userpb.RefreshResponse, error) { return h.renew(token, id) })
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, r := range replies {
			if r.GetRefreshToken() != replies[0].GetRefreshToken() {
				t.Error("different tokens for one request")
			}
		}
		h.mustRenew(replies[0].GetRefreshToken(), uuid.NewString())
	})
}

func TestRefreshTokenExpires(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		token := h.login("ann@example.com").GetRefreshToken()
		h.watch.forward(719 * time.Hour)
		token = h.mustRenew(token, uuid.NewString()).GetRefreshToken()
		h.watch.forward(720 * time.Hour)
		_, err := h.renew(token, uuid.NewString())
		refused(t, err, codes.Unauthenticated, auth.ReasonExpired)
		_, err = h.renew("unknown", uuid.NewString())
		refused(t, err, codes.Unauthenticated, auth.ReasonInvalid)
	})
}
