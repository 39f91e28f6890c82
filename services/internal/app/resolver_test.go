package app

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"
)

// directory builds resolvers that answer once each, the nth by answers[n].
type directory struct {
	resolver.Builder
	answers []func(resolver.ClientConn)

	built, asked, closed int
}

func (d *directory) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	d.answers[d.built](cc)
	d.built++
	return d, nil
}
func (d *directory) ResolveNow(resolver.ResolveNowOptions) { d.asked++ }
func (d *directory) Close()                                { d.closed++ }

// caller is a connection to which an answer without addresses is of no use.
type caller struct{ resolver.ClientConn }

func (caller) ReportError(error) {}

func (caller) UpdateState(s resolver.State) error {
	if len(s.Addresses) == 0 {
		return balancer.ErrBadResolverState
	}
	return nil
}

// A resolver that has failed is not waited for: it would take up to 2 minutes to
// ask again.
func TestANameThatWasUnknownIsSoonAskedForAgain(t *testing.T) {
	answers := map[string]func(resolver.ClientConn){
		"no answer":    func(cc resolver.ClientConn) { cc.ReportError(errors.New("no answer")) },
		"no addresses": func(cc resolver.ClientConn) { _ = cc.UpdateState(resolver.State{}) },
	}
	found := func(cc resolver.ClientConn) {
		_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: "127.0.0.1:1"}}})
	}
	for name, failing := range answers {
		synctest.Test(t, func(t *testing.T) {
			d := &directory{answers: []func(resolver.ClientConn){failing, failing, found}}
			r, err := fresh{d}.Build(resolver.Target{}, caller{}, resolver.BuildOptions{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5*resolveEvery + resolveEvery/2)
			r.Close()
			if d.built != 3 || d.closed != 3 || d.asked != 3 {
				t.Errorf("%s: %d resolvers were built, %d closed and %d asked again, want 3 of each", name, d.built, d.closed, d.asked)
			}
		})
	}
}
