package signin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

// early is how long before its end an access token is renewed: long enough for
// a call to arrive with it.
const early = 10 * time.Second

// ErrSignedOut says that nobody is signed in.
var ErrSignedOut = errors.New("not signed in; sign in with: shopctl login")

// Session is that of whoever has signed in on this machine. Several processes
// may share it: the refresh token is good for one use, and of all that want to
// renew only one does.
type Session struct {
	File   File
	Client *rest.Client // for what takes no access token
	Now    func() time.Time
}

// Token returns the access token, renewed if it is about to expire, or
// ErrSignedOut.
func (s *Session) Token(ctx context.Context) (string, error) {
	g, err := s.File.get(s.Client.Server)
	switch {
	case err != nil:
		return "", err
	case g == nil:
		return "", ErrSignedOut
	case s.Now().Add(early).After(g.Expires):
		return s.Renew(ctx, g.AccessToken)
	}
	return g.AccessToken, nil
}

// Renew exchanges the refresh token for new tokens, unless another process has
// done it already.
func (s *Session) Renew(ctx context.Context, refused string) (string, error) {
	var token string
	err := s.File.locked(ctx, func() error {
		g, err := s.File.get(s.Client.Server)
		switch {
		case err != nil:
			return err
		case g == nil:
			return ErrSignedOut
		case g.AccessToken == refused:
			if g, err = s.refresh(ctx, g); err != nil {
				return err
			}
		}
		token = g.AccessToken
		return nil
	})
	return token, err
}

func (s *Session) refresh(ctx context.Context, g *grant) (*grant, error) {
	if g.RenewalID == "" {
		g.RenewalID = uuid.NewString()
		if err := s.File.put(s.Client.Server, g); err != nil {
			return nil, err
		}
	}
	in := &userpb.RefreshRequest{RefreshToken: g.RefreshToken, RequestId: g.RenewalID}
	out := &userpb.RefreshResponse{}
	_, err := s.Client.Call(ctx, userpb.AuthService_Refresh_FullMethodName, in, out)
	if rest.IsCode(err, codes.Unauthenticated) {
		if err := s.File.put(s.Client.Server, nil); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the sign-in of %s has ended: %w", g.Email, ErrSignedOut)
	}
	if err != nil {
		return nil, err
	}
	return s.store(g.Email, out)
}

// issued is the tokens in a reply to Login or Refresh.
type issued interface {
	GetAccessToken() string
	GetRefreshToken() string
	GetExpiresIn() int32
}

func (s *Session) store(email string, t issued) (*grant, error) {
	g := &grant{
		Email: email, AccessToken: t.GetAccessToken(), RefreshToken: t.GetRefreshToken(),
		Expires: s.Now().Add(time.Duration(t.GetExpiresIn()) * time.Second).UTC().Truncate(time.Second),
	}
	return g, s.File.put(s.Client.Server, g)
}

// In signs in: it exchanges a password for tokens.
func (s *Session) In(ctx context.Context, email, password string) error {
	out := &userpb.LoginResponse{}
	in := &userpb.LoginRequest{Email: email, Password: password}
	if _, err := s.Client.Call(ctx, userpb.AuthService_Login_FullMethodName, in, out); err != nil {
		return err
	}
	return s.File.locked(ctx, func() error {
		_, err := s.store(email, out)
		return err
	})
}

// Out signs out: it forgets the tokens here first, then has the server revoke
// them. It reports whether there were any.
func (s *Session) Out(ctx context.Context) (bool, error) {
	var g *grant
	err := s.File.locked(ctx, func() (err error) {
		if g, err = s.File.get(s.Client.Server); err != nil || g == nil {
			return err
		}
		return s.File.put(s.Client.Server, nil)
	})
	if err != nil || g == nil {
		return false, err
	}
	in := &userpb.LogoutRequest{RefreshToken: g.RefreshToken}
	if _, err := s.Client.Call(ctx, userpb.AuthService_Logout_FullMethodName, in, &userpb.LogoutResponse{}); err != nil {
		return true, fmt.Errorf("signed out here, but the server does not know: %w", err)
	}
	return true, nil
}

// Passing is the session of a user who is not kept: an access token.
type Passing string

// Token returns the token.
func (p Passing) Token(context.Context) (string, error) { return string(p), nil }

// Renew says that there is no other.
func (p Passing) Renew(context.Context, string) (string, error) { return "", ErrSignedOut }
