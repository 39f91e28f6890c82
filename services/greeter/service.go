package greeter

import (
	"context"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	"github.com/meshmart/meshmart/services/internal/app"
)

// New returns the greeter, for app.Main and app.Run.
func New() app.Service {
	return app.Service{
		Name:  "greeter",
		Doc:   "greets people, in each of the four kinds of RPC",
		Start: start,
	}
}

func start(_ context.Context, env *app.Env) error {
	greeterpb.RegisterGreetingServiceServer(env.Server, &handler{clock: env.Clock, draining: env.Draining()})
	return nil
}
