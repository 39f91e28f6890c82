package user

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/events"
)

// news announces what happens to accounts, in the transaction in which it does.
// Nothing in it is personal: the broker keeps events for days.
type news struct{ outbox *events.Outbox }

func (n news) created(ctx context.Context, tx *store, u User) error {
	return n.outbox.Add(ctx, tx.db, "user.created", &userpb.UserCreated{UserId: u.ID, CreateTime: timestamppb.New(u.Created)})
}

func (n news) updated(ctx context.Context, tx *store, id string, at time.Time) error {
	return n.outbox.Add(ctx, tx.db, "user.updated", &userpb.UserUpdated{UserId: id, UpdateTime: timestamppb.New(at)})
}

func (n news) deleted(ctx context.Context, tx *store, id string, at time.Time) error {
	return n.outbox.Add(ctx, tx.db, "user.deleted", &userpb.UserDeleted{UserId: id, DeleteTime: timestamppb.New(at)})
}

// revoked makes every service refuse the access tokens of a session.
func (n news) revoked(ctx context.Context, tx *store, e ended) error {
	return n.outbox.Add(ctx, tx.db, auth.RevokedSubject, &userpb.SessionRevoked{SessionId: e.session, ExpireTime: timestamppb.New(e.until)})
}
