package shop

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// TestRepeatedCallsAfterACrash calls every RPC of the table of repetitions once
// more: the shop is killed with SIGKILL when the call has had its effect, before
// its reply. Who repeats the call at the next process finds the effect of one
// call and is answered as if nothing had been.
func TestRepeatedCallsAfterACrash(t *testing.T) {
	var engines sync.WaitGroup
	engines.Go(func() {
		t.Run("sqlite", func(t *testing.T) { testRepeatedAfterCrash(t, nil) })
	})
	engines.Go(func() {
		t.Run("postgres", func(t *testing.T) { testRepeatedAfterCrash(t, onPostgres(t)) })
	})
	engines.Wait()
}

func testRepeatedAfterCrash(t *testing.T, databases map[string]string) {
	broker := freeAddr(t)
	startBroker(t, broker)
	environ := map[string]string{"NATS_URL": "nats://" + broker, "CATALOG_FILE": "", "TRUST_NETWORK": "true"}
	maps.Copy(environ, databases)
	c := newCaller(t, environ)
	v := newVictim(t, environ)
	v.mustBegin()
	c.admin = c.login(adminEmail, adminPassword).GetAccessToken()
	var done []announcement
	rpcs, cases := map[string]bool{}, 0
	for _, r := range repetitions() {
		t.Run(strings.TrimSpace(r.rpc+" "+r.about), func(t *testing.T) {
			if r.notRepeatable == "" {
				rpcs[r.rpc] = true
				cases++
				done = append(done, r.runKilled(c.in(t), v))
			}
		})
	}
	waitForOutboxes(t, v.dir, databases)
	v.end()
	wantAnnounced(t, "nats://"+broker, done)
	t.Logf("figure: %s: %d RPCs in %d cases repeated after a kill between their effect and their reply: one effect, one reply", t.Name(), len(rpcs), cases)
}

// runKilled has the shop die before it replies, and repeats the call.
func (r repetition) runKilled(c *caller, v *victim) announcement {
	a := r.setup(c)
	before := a.effect(nil)
	usual := c.atOnce(a, 1)
	after := a.effect(last(usual)) // of a call that is answered
	if before == after {
		c.t.Errorf("a call has no effect: %s", after)
	}

	a = r.setup(c)
	v.quiet(50 * time.Millisecond)
	point := r.host() + ": before reply of " + r.rpc
	v.set(point, 1)
	if replies, err := c.try(a.token, a.send...); err == nil {
		c.t.Fatalf("the shop was to die at %q, and has answered %v", point, replies)
	}
	v.wantDead(point)
	v.disarm()
	v.mustBegin()
	replies := slices.Concat(c.atOnce(a, 1), c.atOnce(a, 2))
	r.wantNoClaims(c.t, replies)
	announced := r.check(c.t, a, replies, after)
	if r.settle != nil {
		r.settle(last(usual))
	}
	if diff := cmp.Diff(shape(last(replies)), shape(last(usual))); diff != "" {
		c.t.Errorf("another reply than without a crash (-got +want):\n%s", diff)
	}
	return announced
}

// wantNoClaims: the reply that nobody got has claimed all the effects there are.
func (r *repetition) wantNoClaims(t *testing.T, replies [][]proto.Message) {
	t.Helper()
	if r.claims == nil {
		return
	}
	for _, m := range slices.Concat(replies...) {
		if n := r.claims(m); n != 0 {
			t.Errorf("a repetition claims %d effects: %v", n, m)
		}
	}
	r.claims = nil
}

// host returns the service that has the RPC.
func (r repetition) host() string {
	options := mutating()[r.rpc].Parent().Options()
	return proto.GetExtension(options, meshpb.E_Service).(*meshpb.ServicePolicy).GetHost()
}

// shape returns which fields a message has, with the values of enums: what is the
// same in the replies to two calls of the same kind.
func shape(m proto.Message) (fields []string) {
	_ = protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
		text := p.Path[1:].String()
		if v, ok := p.Index(-1).Value.Interface().(protoreflect.EnumNumber); ok {
			text += fmt.Sprint(" ", v)
		}
		fields = append(fields, text)
		return nil
	})
	slices.Sort(fields)
	return fields
}
