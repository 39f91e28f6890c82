package product

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/events"
)

// The subjects of proto/product/v1/events.proto.
const (
	subjectCreated = "product.created"
	subjectUpdated = "product.updated"
	subjectDeleted = "product.deleted"
)

// announcer tells the other services what became of a product, once the
// transaction that makes it so is committed.
type announcer struct {
	outbox *events.Outbox
}

func (a *announcer) created(ctx context.Context, tx *store, p Product, stock int32) error {
	return a.add(ctx, tx, subjectCreated, &productpb.ProductCreated{Product: toProto(p), InitialStock: stock})
}

func (a *announcer) updated(ctx context.Context, tx *store, p Product) error {
	return a.add(ctx, tx, subjectUpdated, &productpb.ProductUpdated{Product: toProto(p)})
}

// deleted tells what p was before.
func (a *announcer) deleted(ctx context.Context, tx *store, p Product) error {
	return a.add(ctx, tx, subjectDeleted, &productpb.ProductDeleted{Product: toProto(p)})
}

func (a *announcer) add(ctx context.Context, tx *store, subject string, m proto.Message) error {
	return a.outbox.Add(ctx, tx.db, subject, m)
}

// watcher reads what the announcers of all replicas have told.
type watcher struct {
	bus *events.Bus
	log *slog.Logger
}

// watch calls send with every change after the one at that place, or with those
// from now on if it is the zero value, until ctx is done or send fails. ready is
// called when no change can be missed any more.
func (w *watcher) watch(ctx context.Context, after events.Place, ready func(), send func(*productpb.WatchProductsResponse) error) error {
	tail := events.Tail{
		Subjects: []string{subjectCreated, subjectUpdated, subjectDeleted},
		After:    after,
		Ready:    ready,
	}
	return w.bus.Tail(ctx, tail, func(ctx context.Context, e events.Event) error {
		change, err := changeOf(e)
		if err != nil { // no watcher would ever get past it
			w.log.ErrorContext(ctx, "event is left out", "subject", e.Subject, "event", e.ID, "err", err.Error())
			return nil
		}
		return send(change)
	})
}

// changeOf returns an event as those see it who watch the catalog.
func changeOf(e events.Event) (*productpb.WatchProductsResponse, error) {
	var m interface {
		proto.Message
		GetProduct() *productpb.Product
	}
	var c productpb.WatchProductsResponse_Change
	switch e.Subject {
	case subjectCreated:
		m, c = &productpb.ProductCreated{}, productpb.WatchProductsResponse_CHANGE_CREATED
	case subjectUpdated:
		m, c = &productpb.ProductUpdated{}, productpb.WatchProductsResponse_CHANGE_UPDATED
	case subjectDeleted:
		m, c = &productpb.ProductDeleted{}, productpb.WatchProductsResponse_CHANGE_DELETED
	default:
		return nil, fmt.Errorf("%w: unknown subject", events.ErrMalformed)
	}
	if err := e.Unmarshal(m); err != nil {
		return nil, err
	}
	return &productpb.WatchProductsResponse{Change: c, Product: m.GetProduct(), ResumeToken: resumeToken(e.Place)}, nil
}
