package user

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

func TestCreatedUserIsReadBack(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("Ann@Example.COM")
		if ann.GetEmail() != "ann@example.com" || ann.GetDisplayName() != "Some One" || ann.GetEtag() == "" ||
			!cmp.Equal(ann.GetRoles(), []string{auth.RoleUser}) || uuid.MustParse(ann.GetId()).Version() != 7 {
			t.Errorf("got %v", ann)
		}
		ctx := h.as("ann@example.com")
		for _, id := range []string{"me", ann.GetId(), strings.ToUpper(ann.GetId())} {
			r, err := h.users.GetUser(ctx, &userpb.GetUserRequest{Id: id})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.GetUser(), ann, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		}
		_, err := h.users.CreateUser(t.Context(), &userpb.CreateUserRequest{Email: "aNN@example.com", Password: password})
		refused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
		h.announced("user.created", 3, &userpb.UserCreated{}) // the administrator, Ann, and the fence
	})
}

func TestRepeatedCreateIsAnsweredAlike(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := &userpb.CreateUserRequest{Email: "ann@example.com", Password: password, DisplayName: "Ann", RequestId: uuid.NewString()}
		replies, errs := race(6, func(int) (*userpb.CreateUserResponse, error) { return h.users.CreateUser(t.Context(), r) })
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, got := range replies[1:] {
			if diff := cmp.Diff(got, replies[0], protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		}
		for _, other := range []*userpb.CreateUserRequest{
			{Email: r.GetEmail(), Password: "another password", DisplayName: "Ann", RequestId: r.GetRequestId()},
			{Email: r.GetEmail(), Password: password, DisplayName: "Bob", RequestId: r.GetRequestId()},
			{Email: "bob@example.com", Password: password, DisplayName: "Ann", RequestId: r.GetRequestId()},
		} {
			_, err := h.users.CreateUser(t.Context(), other)
			invalid(t, err, "request_id")
		}
		if _, err := h.users.DeleteUser(h.as("ann@example.com"), &userpb.DeleteUserRequest{Id: "me"}); err != nil {
			t.Fatal(err)
		}
		_, err := h.users.CreateUser(t.Context(), r)
		refused(t, err, codes.NotFound, "NOT_FOUND")
		h.announced("user.created", 3, &userpb.UserCreated{})
	})
}

func TestBadInputNamesTheField(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		ctx := h.as("ann@example.com")
		long := strings.Repeat("a", 129)
		create := func(r *userpb.CreateUserRequest) error { _, err := h.users.CreateUser(t.Context(), r); return err }
		update := func(u *userpb.User, mask ...string) error {
			r := &userpb.UpdateUserRequest{User: u}
			if mask != nil {
				r.UpdateMask = &fieldmaskpb.FieldMask{Paths: mask}
			}
			_, err := h.users.UpdateUser(ctx, r)
			return err
		}
		get := func(id string) error { _, err := h.users.GetUser(ctx, &userpb.GetUserRequest{Id: id}); return err }
		list := func(r *userpb.ListUsersRequest) error {
			_, err := h.users.ListUsers(h.as(rootEmail), r)
			return err
		}
		for _, c := range []struct {
			field string
			err   error
		}{
			{"email", create(&userpb.CreateUserRequest{Password: password})},
			{"email", create(&userpb.CreateUserRequest{Email: "no email", Password: password})},
			{"email", create(&userpb.CreateUserRequest{Email: "a\x00@example.com", Password: password})},
			{"email", create(&userpb.CreateUserRequest{Email: long + "@" + long + ".com", Password: password})},
			{"password", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: "1234567"})},
			{"password", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: long})},
			{"display_name", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: password, DisplayName: long})},
			{"display_name", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: password, DisplayName: "a\x00b"})},
			{"display_name", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: password, DisplayName: "\x1b[31m"})},
			{"request_id", create(&userpb.CreateUserRequest{Email: "b@example.com", Password: password, RequestId: "1"})},
			{"id", get("")}, {"id", get("1")}, {"id", get("ME")}, {"id", get("' OR 1=1")},
			{"user", update(nil)},
			{"user", update(&userpb.User{Id: "x"})},
			{"user.email", update(&userpb.User{Id: "me", Email: "x"})},
			{"user.email", update(&userpb.User{Id: "me"}, "email")},
			{"user.email", update(&userpb.User{Id: "me", DisplayName: "x"}, "*")},
			{"user.display_name", update(&userpb.User{Id: "me", DisplayName: "a\nb"})},
			{"update_mask", update(&userpb.User{Id: "me"}, "password")},
			{"update_mask", update(&userpb.User{Id: "me"}, "email.x")},
			{"page_size", list(&userpb.ListUsersRequest{PageSize: -1})},
			{"page_token", list(&userpb.ListUsersRequest{PageToken: "x"})},
			{"filter", list(&userpb.ListUsersRequest{Filter: "password = 'x'"})},
			{"order_by", list(&userpb.ListUsersRequest{OrderBy: "password"})},
		} {
			invalid(t, c.err, c.field)
		}
	})
}

func TestAccountOfAnotherIsNotFound(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("ann@example.com")
		h.join("bob@example.com")
		calls := func(ctx context.Context, id string) []error {
			_, get := h.users.GetUser(ctx, &userpb.GetUserRequest{Id: id})
			_, update := h.users.UpdateUser(ctx, &userpb.UpdateUserRequest{User: &userpb.User{Id: id, DisplayName: "x"}})
			_, remove := h.users.DeleteUser(ctx, &userpb.DeleteUserRequest{Id: id})
			return []error{get, update, remove}
		}
		for _, err := range append(calls(h.as("bob@example.com"), ann.GetId()), calls(h.as(rootEmail), uuid.NewString())...) {
			refused(t, err, codes.NotFound, "NOT_FOUND")
		}
		for _, err := range calls(t.Context(), "me") {
			refused(t, err, codes.Unauthenticated, "TOKEN_MISSING")
		}
		if err := errors.Join(calls(h.as(rootEmail), ann.GetId())...); err != nil {
			t.Error(err)
		}
	})
}

func TestUpdateChangesWhatTheMaskNames(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.join("ann@example.com")
		ctx := h.as("ann@example.com")
		for _, c := range []struct {
			user        *userpb.User
			mask        []string
			email, name string
		}{
			{&userpb.User{DisplayName: "Ann"}, nil, "ann@example.com", "Ann"},
			{&userpb.User{Email: "Other@example.com", DisplayName: "x"}, []string{"email"}, "other@example.com", "Ann"},
			{&userpb.User{}, []string{"display_name"}, "other@example.com", ""},
			{&userpb.User{Email: "ann@example.com", DisplayName: "Ann B"}, []string{"*"}, "ann@example.com", "Ann B"},
			{&userpb.User{Roles: []string{auth.RoleAdmin}}, []string{"roles", "create_time"}, "ann@example.com", "Ann B"},
			{&userpb.User{}, nil, "ann@example.com", "Ann B"},
		} {
			h.watch.forward(time.Second)
			c.user.Id = "me"
			r, err := h.users.UpdateUser(ctx, &userpb.UpdateUserRequest{User: c.user, UpdateMask: &fieldmaskpb.FieldMask{Paths: c.mask}})
			if err != nil {
				t.Fatal(err)
			}
			if u := r.GetUser(); u.GetEmail() != c.email || u.GetDisplayName() != c.name || !cmp.Equal(u.GetRoles(), []string{auth.RoleUser}) {
				t.Errorf("%v by %v: got %v", c.user, c.mask, u)
			}
		}
		h.join("bob@example.com")
		_, err := h.users.UpdateUser(ctx, &userpb.UpdateUserRequest{User: &userpb.User{Id: "me", Email: "bob@example.com"}})
		refused(t, err, codes.AlreadyExists, "EMAIL_TAKEN")
		h.announced("user.updated", 4, &userpb.UserUpdated{})
	})
}

func TestStaleEtagIsAborted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("ann@example.com")
		ctx := h.as("ann@example.com")
		rename := func(etag string) (*userpb.UpdateUserResponse, error) {
			return h.users.UpdateUser(ctx, &userpb.UpdateUserRequest{User: &userpb.User{Id: "me", DisplayName: "x", Etag: etag}})
		}
		replies, errs := race(4, func(int) (*userpb.UpdateUserResponse, error) { return rename(ann.GetEtag()) })
		won := -1
		for i, err := range errs {
			if err == nil && won < 0 {
				won = i
				continue
			}
			refused(t, err, codes.Aborted, "STALE_ETAG")
		}
		if won < 0 {
			t.Fatal("nobody was first")
		}
		if _, err := rename(replies[won].GetUser().GetEtag()); err != nil {
			t.Error(err)
		}
		for _, etag := range []string{ann.GetEtag(), "x\x00", "-1", "0", "99999999999999999999", "9999999999"} {
			_, err := rename(etag)
			refused(t, err, codes.Aborted, "STALE_ETAG")
			_, err = h.users.DeleteUser(ctx, &userpb.DeleteUserRequest{Id: "me", Etag: etag})
			refused(t, err, codes.Aborted, "STALE_ETAG")
			_, err = h.users.UpdateUser(ctx, &userpb.UpdateUserRequest{User: &userpb.User{Id: "me", Etag: etag}})
			refused(t, err, codes.Aborted, "STALE_ETAG")
		}
	})
}

func TestRepeatedUpdateChangesOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("ann@example.com")
		ctx := h.as("ann@example.com")
		r := &userpb.UpdateUserRequest{User: &userpb.User{Id: "me", DisplayName: "Ann", Etag: ann.GetEtag()}, RequestId: uuid.NewString()}
		replies, errs := race(4, func(int) (*userpb.UpdateUserResponse, error) { return h.users.UpdateUser(ctx, r) })
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, got := range replies[1:] {
			if diff := cmp.Diff(got, replies[0], protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		}
		r.User.DisplayName = "Bob"
		_, err := h.users.UpdateUser(ctx, r)
		invalid(t, err, "request_id")
		h.announced("user.updated", 1, &userpb.UserUpdated{})
	})
}

func TestClosedAccountIsGone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ann := h.join("ann@example.com")
		old := h.login("ann@example.com")
		h.watch.forward(time.Hour) // its access token has expired
		first, second := h.login("ann@example.com"), h.login("ann@example.com")
		if _, err := h.users.DeleteUser(bearing(t, first.GetAccessToken()), &userpb.DeleteUserRequest{Id: "me", Etag: ann.GetEtag()}); err != nil {
			t.Fatal(err)
		}
		_, err := h.me(second.GetAccessToken())
		refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		for _, token := range []string{old.GetRefreshToken(), second.GetRefreshToken()} {
			_, err = h.renew(token, uuid.NewString())
			refused(t, err, codes.Unauthenticated, auth.ReasonRevoked)
		}
		_, err = h.auth.Login(t.Context(), &userpb.LoginRequest{Email: "ann@example.com", Password: password})
		refused(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
		_, err = h.users.GetUser(h.as(rootEmail), &userpb.GetUserRequest{Id: ann.GetId()})
		refused(t, err, codes.NotFound, "NOT_FOUND")
		for range 2 {
			if _, err := h.users.DeleteUser(h.as(rootEmail), &userpb.DeleteUserRequest{Id: ann.GetId(), Etag: ann.GetEtag()}); err != nil {
				t.Error(err)
			}
		}
		if n := h.count(`SELECT COUNT(*) FROM users WHERE email = 'ann@example.com' OR display_name = 'Some One' OR password = ''`); n != 1 {
			t.Errorf("something personal is kept: %d rows", n)
		}
		if again := h.join("ann@example.com"); again.GetId() == ann.GetId() {
			t.Error("the new account has the id of the old one")
		}
		h.announced("user.deleted", 1, &userpb.UserDeleted{})
		h.announced(auth.RevokedSubject, 2, &userpb.SessionRevoked{})
	})
}

func TestListShowsAccountsToAdministratorsOnly(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for i := range 7 {
			h.watch.forward(time.Second)
			h.join(fmt.Sprintf("user%d@example.com", 9-i))
		}
		_, err := h.users.ListUsers(h.as("user9@example.com"), &userpb.ListUsersRequest{})
		refused(t, err, codes.PermissionDenied, "ADMIN_REQUIRED")
		if _, err := h.users.DeleteUser(h.as("user9@example.com"), &userpb.DeleteUserRequest{Id: "me"}); err != nil {
			t.Fatal(err)
		}
		root := h.as(rootEmail)
		pages := func(r *userpb.ListUsersRequest) (names string) {
			t.Helper()
			for {
				l, err := h.users.ListUsers(root, r)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range l.GetUsers() {
					name, _, _ := strings.Cut(u.GetEmail(), "@")
					names += strings.TrimPrefix(name, "user") + " "
				}
				if r.PageToken = l.GetNextPageToken(); r.PageToken == "" {
					return fmt.Sprintf("%sof %d", names, l.GetTotalSize())
				}
				names += "| "
			}
		}
		for _, c := range []struct {
			r    *userpb.ListUsersRequest
			want string
		}{
			{&userpb.ListUsersRequest{}, "root 8 7 6 5 4 3 of 7"},
			{&userpb.ListUsersRequest{PageSize: 3}, "root 8 7 | 6 5 4 | 3 of 7"},
			{&userpb.ListUsersRequest{PageSize: 4, OrderBy: "email"}, "root 3 4 5 | 6 7 8 of 7"},
			{&userpb.ListUsersRequest{PageSize: 2, OrderBy: "create_time desc", Filter: `email:"user" AND email < "user6@"`}, "3 4 | 5 of 3"},
			{&userpb.ListUsersRequest{Filter: `create_time > "2999-01-01T00:00:00Z"`}, "of 0"},
		} {
			if got := pages(c.r); got != c.want {
				t.Errorf("%v: got %s, want %s", c.r, got, c.want)
			}
		}
	})
}

func TestListsUseIndexes(t *testing.T) {
	if err := lists.Check(); err != nil {
		t.Fatal(err)
	}
	h := open(t, dbtest.SQLite(t), nil)
	d := h.database()
	for _, order := range []string{"", "email", "email desc", "create_time desc"} {
		q, err := lists.Parse(&userpb.ListUsersRequest{OrderBy: order})
		if err != nil {
			t.Fatal(err)
		}
		tail, args := q.Page("delete_time IS NULL")
		rows, err := d.Query(t.Context(), `EXPLAIN QUERY PLAN SELECT id FROM users`+tail, args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var plan string
			if err := rows.Scan(&id, &parent, &unused, &plan); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(plan, "users_by_") {
				t.Errorf("by %q: %s", order, plan)
			}
		}
	}
}

func TestHealthCheckSeesTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		check := func(want userpb.HealthCheckResponse_Status) {
			t.Helper()
			r, err := h.users.HealthCheck(t.Context(), &userpb.HealthCheckRequest{})
			if err != nil || r.GetStatus() != want || !r.GetTimestamp().AsTime().Equal(h.watch.time()) {
				t.Errorf("got %v, %v, want %v", r, err, want)
			}
		}
		check(userpb.HealthCheckResponse_STATUS_SERVING)
		if _, err := h.database().Exec(t.Context(), `ALTER TABLE users RENAME TO elsewhere`); err != nil {
			t.Fatal(err)
		}
		check(userpb.HealthCheckResponse_STATUS_NOT_SERVING)
	})
}
