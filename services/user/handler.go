package user

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// handler speaks UserService for accounts.
type handler struct {
	userpb.UnsafeUserServiceServer
	accounts *accounts
	store    *store
	log      *slog.Logger
	clock    func() time.Time
}

func (h *handler) CreateUser(ctx context.Context, req *userpb.CreateUserRequest) (*userpb.CreateUserResponse, error) {
	if err := checkName("display_name", req.GetDisplayName()); err != nil {
		return nil, err
	}
	u, err := h.accounts.create(ctx, idem.KeyOf(ctx, req, "password"), newUser{
		email: req.GetEmail(), password: req.GetPassword(), name: req.GetDisplayName(), roles: []string{auth.RoleUser},
	})
	if err != nil {
		return nil, err
	}
	return &userpb.CreateUserResponse{User: toProto(u)}, nil
}

func (h *handler) GetUser(ctx context.Context, req *userpb.GetUserRequest) (*userpb.GetUserResponse, error) {
	id, err := ownID(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	u, err := h.store.user(ctx, id)
	if err != nil {
		return nil, err
	}
	return &userpb.GetUserResponse{User: toProto(u)}, nil
}

func (h *handler) UpdateUser(ctx context.Context, req *userpb.UpdateUserRequest) (*userpb.UpdateUserResponse, error) {
	id, err := ownID(ctx, req.GetUser().GetId())
	if err != nil {
		return nil, err
	}
	c, err := changeOf(req)
	if err != nil {
		return nil, err
	}
	u, err := h.accounts.update(ctx, idem.KeyOf(ctx, req), id, c)
	if err != nil {
		return nil, err
	}
	return &userpb.UpdateUserResponse{User: toProto(u)}, nil
}

func (h *handler) ListUsers(ctx context.Context, req *userpb.ListUsersRequest) (*userpb.ListUsersResponse, error) {
	p, err := h.store.list(ctx, req)
	if err != nil {
		return nil, err
	}
	users := make([]*userpb.User, len(p.users))
	for i, u := range p.users {
		users[i] = toProto(u)
	}
	return &userpb.ListUsersResponse{Users: users, NextPageToken: p.next, TotalSize: int32(p.total)}, nil
}

func (h *handler) DeleteUser(ctx context.Context, req *userpb.DeleteUserRequest) (*userpb.DeleteUserResponse, error) {
	id, err := ownID(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	if err := h.accounts.remove(ctx, id, req.GetEtag()); err != nil {
		return nil, err
	}
	return &userpb.DeleteUserResponse{}, nil
}

// healthLimit is for the check itself: the answer must still reach the caller
// within the RPC's second.
const healthLimit = 700 * time.Millisecond

func (h *handler) HealthCheck(ctx context.Context, _ *userpb.HealthCheckRequest) (*userpb.HealthCheckResponse, error) {
	check, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	status := userpb.HealthCheckResponse_STATUS_SERVING
	if err := h.store.writable(check); err != nil {
		h.log.WarnContext(ctx, "not serving", "err", err.Error())
		status = userpb.HealthCheckResponse_STATUS_NOT_SERVING
	}
	return &userpb.HealthCheckResponse{Status: status, Timestamp: timestamppb.New(h.clock())}, nil
}

// ownID returns the account that the caller means and may see.
func ownID(ctx context.Context, id string) (string, error) {
	who, _ := auth.From(ctx)
	return idOf(who, id)
}

// changeOf returns what an update changes (AIP-134). Fields of the output that
// the mask names are left alone (AIP-203): a client may send back what it got.
func changeOf(req *userpb.UpdateUserRequest) (change, error) {
	u := req.GetUser()
	c := change{version: versionOf(u.GetEtag())}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		paths = setFields(u)
	}
	for _, path := range paths {
		switch path {
		case "*":
			c.email, c.name = &u.Email, &u.DisplayName
		case "email":
			c.email = &u.Email
		case "display_name":
			c.name = &u.DisplayName
		case "id", "roles", "create_time", "update_time", "etag":
		default:
			return change{}, fault.Invalid("update_mask", "there is no field %q", path)
		}
	}
	return c.check()
}

func setFields(u *userpb.User) []string {
	var paths []string
	if u.GetEmail() != "" {
		paths = append(paths, "email")
	}
	if u.GetDisplayName() != "" {
		paths = append(paths, "display_name")
	}
	return paths
}

func toProto(u User) *userpb.User {
	return &userpb.User{
		Id: u.ID, Email: u.Email, DisplayName: u.DisplayName, Roles: u.Roles,
		CreateTime: timestamppb.New(u.Created), UpdateTime: timestamppb.New(u.Updated), Etag: u.Etag(),
	}
}
