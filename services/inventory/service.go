package inventory

import (
	"context"
	"embed"

	inventorypb "github.com/meshmart/meshmart/proto/inventory/v1"
	"github.com/meshmart/meshmart/services/internal/app"
	"github.com/meshmart/meshmart/services/internal/events"
)

//go:embed schema/*.sql
var schema embed.FS

// New returns the inventory service, for app.Main and app.Run.
func New() app.Service {
	return app.Service{
		Name:  "inventory",
		Doc:   "counts the stock and sets it aside for orders",
		Calls: []string{"user"}, // the keys of tokens
		Start: start,
	}
}

func start(ctx context.Context, env *app.Env) error {
	database, err := env.DB(ctx, schema)
	if err != nil {
		return err
	}
	bus, err := env.Bus()
	if err != nil {
		return err
	}
	outbox, err := env.Outbox(database)
	if err != nil {
		return err
	}
	st := &store{database}
	inv := &Inventory{store: st, events: &announcer{outbox}, clock: env.Clock}
	inv.writes.Parallel = database.Parallel()
	l := newListener(inv, env.Log)
	env.Go("events", func(ctx context.Context) error {
		return bus.Consume(ctx, events.Consumer{Name: "inventory", Subjects: heard(), DB: database, Handle: l.handle, Together: true})
	})
	inventorypb.RegisterInventoryServiceServer(env.Server, &handler{inv: inv, store: st, draining: env.Draining()})
	return nil
}
