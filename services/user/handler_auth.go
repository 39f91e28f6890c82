package user

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
)

// authHandler speaks AuthService for sessions.
type authHandler struct {
	userpb.UnsafeAuthServiceServer
	sessions *sessions
	keys     *keyring
}

// bearer is how an access token is sent (RFC 6750).
const bearer = "Bearer"

func (h *authHandler) Login(ctx context.Context, req *userpb.LoginRequest) (*userpb.LoginResponse, error) {
	t, err := h.sessions.login(ctx, req.GetEmail(), req.GetPassword())
	if err != nil {
		return nil, err
	}
	return &userpb.LoginResponse{AccessToken: t.access, RefreshToken: t.refresh, TokenType: bearer, ExpiresIn: t.seconds()}, nil
}

func (h *authHandler) Refresh(ctx context.Context, req *userpb.RefreshRequest) (*userpb.RefreshResponse, error) {
	t, err := h.sessions.renew(ctx, req.GetRefreshToken(), strings.ToLower(req.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &userpb.RefreshResponse{AccessToken: t.access, RefreshToken: t.refresh, TokenType: bearer, ExpiresIn: t.seconds()}, nil
}

func (t tokens) seconds() int32 { return int32(t.lifetime.Round(time.Second) / time.Second) }

func (h *authHandler) Logout(ctx context.Context, req *userpb.LogoutRequest) (*userpb.LogoutResponse, error) {
	if err := h.sessions.logout(ctx, req.GetRefreshToken()); err != nil {
		return nil, err
	}
	return &userpb.LogoutResponse{}, nil
}

func (h *authHandler) ValidateToken(ctx context.Context, req *userpb.ValidateTokenRequest) (*userpb.ValidateTokenResponse, error) {
	p, err := h.sessions.validate(ctx, req.GetAccessToken())
	if err != nil {
		return nil, err
	}
	return &userpb.ValidateTokenResponse{
		UserId: p.Subject, Roles: p.Roles, SessionId: p.Session, ExpireTime: timestamppb.New(p.Expires),
	}, nil
}

func (h *authHandler) GetJwks(ctx context.Context, _ *userpb.GetJwksRequest) (*userpb.GetJwksResponse, error) {
	r, err := h.keys.current(ctx)
	if err != nil {
		return nil, err
	}
	reply := &userpb.GetJwksResponse{}
	for _, k := range r.published(h.keys.clock()) {
		reply.Keys = append(reply.Keys, k.Proto())
	}
	return reply, nil
}
