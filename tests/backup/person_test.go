package backup

import (
	"context"
	"testing"

	"github.com/meshmart/meshmart/tests/cluster/customer"
)

// person is somebody who calls the shop by its gateway, once each time.
type person struct{ *customer.Customer }

// signIn returns somebody who has an account, signed in.
func signIn(t *testing.T, s shop, email, password string) *person {
	t.Helper()
	p := &person{customer.New(s.url())}
	t.Cleanup(p.Close)
	if err := p.SignIn(t.Context(), email, password); err != nil {
		t.Fatalf("sign in as %s: %v", email, err)
	}
	return p
}

// state returns what the shop says of an order.
func (p *person) state(ctx context.Context, id string) string {
	o, err := p.Read(ctx, id)
	if err != nil {
		return err.Error()
	}
	return o.GetState().String()
}
