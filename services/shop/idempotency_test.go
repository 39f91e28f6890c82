package shop

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
	"github.com/meshmart/meshmart/services/internal/idem"
)

// repetition says how an RPC is repeated and what must come of it.
type repetition struct {
	rpc   string // such as "user.v1.AuthService/Login"
	about string // which case it is, if the RPC has several

	// notRepeatable is why the RPC may not be repeated; then only its contract is
	// looked at, and the rest is empty.
	notRepeatable string

	setup func(*caller) attempt
	// announced are the subjects of all events about what the attempt is about,
	// its setup included, in alphabetical order.
	announced string
	// settle brings a reply to what must be the same in all of them, where the
	// contract lets the others differ. Nil: all is the same.
	settle func(reply proto.Message)
	// claims is how many effects a reply claims for itself: over all replies of
	// an attempt as many as messages were sent. Nil: replies do not tell.
	claims func(reply proto.Message) int
}

// attempt is one request with its natural key or request id.
type attempt struct {
	token string          // on whose behalf; the administrator's if empty
	send  []proto.Message // the request; of a stream all of it
	keys  []string        // what the events about it contain, besides the reply's id
	// effect is what the contracts show of the effect, without ids, so that it
	// is the same for each attempt of a repetition. last is a reply, or nil
	// before the first call.
	effect func(last proto.Message) string
}

// TestRepeatedCallsTakeEffectOnce calls every RPC of every contract that changes
// something again and again with the same key: in turn, then at once, and anew
// with all calls at once. There is one effect, one reply and one of each event,
// and each repetition is seen to be one in its span.
func TestRepeatedCallsTakeEffectOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		wantComplete(t, repetitions())
		broker := freeAddr(t)
		startBroker(t, broker)
		environ := map[string]string{"NATS_URL": "nats://" + broker, "CATALOG_FILE": "", "TRUST_NETWORK": "true"}
		maps.Copy(environ, databases)
		c := newCaller(t, environ)
		m := open(t, t.TempDir(), environ)
		c.spans = m.spans
		c.admin = c.login(adminEmail, adminPassword).GetAccessToken()
		var done []announcement
		for _, r := range repetitions() {
			t.Run(strings.TrimSpace(r.rpc+" "+r.about), func(t *testing.T) {
				if r.notRepeatable == "" {
					done = append(done, r.run(c.in(t))...)
				}
			})
		}
		m.stop() // once the outboxes are empty
		wantAnnounced(t, "nats://"+broker, done)
	})
}

// wantComplete checks that the table has every RPC that changes something, and
// no other, and that the contracts call them repeatable as the table does.
func wantComplete(t *testing.T, table []repetition) {
	t.Helper()
	all := mutating()
	missing := maps.Clone(all)
	for _, r := range table {
		m, ok := all[r.rpc]
		if !ok {
			t.Errorf("the table has %s, and no contract has such an RPC that changes something", r.rpc)
			continue
		}
		delete(missing, r.rpc)
		opts := m.Options().(*descriptorpb.MethodOptions)
		idempotent := opts.GetIdempotencyLevel() == descriptorpb.MethodOptions_IDEMPOTENT
		if idempotent != (r.notRepeatable == "") {
			t.Errorf("%s: idempotent is %v in the contract; in the table: %q", r.rpc, idempotent, r.notRepeatable)
		}
		retry := proto.GetExtension(opts, meshpb.E_Method).(*meshpb.MethodPolicy).GetRetry()
		if r.notRepeatable != "" && retry != nil {
			t.Errorf("%s is retried (%v), and must not be: %s", r.rpc, retry, r.notRepeatable)
		}
	}
	for _, rpc := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s changes something and is not in the table", rpc)
	}
	t.Logf("figure: %d RPCs of %d change something, in %d cases", len(all), len(methods()), len(table))
}

// mutating returns the RPCs that change something, by their names.
func mutating() map[string]protoreflect.MethodDescriptor {
	found := map[string]protoreflect.MethodDescriptor{}
	for _, m := range methods() {
		level := m.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
		if level != descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
			found[rpcName(m)] = m
		}
	}
	return found
}

// run repeats the call and returns what must have been announced.
func (r repetition) run(c *caller) []announcement {
	a := r.setup(c)
	before := a.effect(nil)
	c.spans.Reset()
	replies := c.atOnce(a, 1)
	r.wantReplays(c, 0)
	after := a.effect(last(replies))
	if before == after {
		c.t.Errorf("the first call has no effect: %s", after)
	}
	for _, n := range []int{1, 1, 8} {
		replies = append(replies, c.atOnce(a, n)...)
		r.wantReplays(c, n)
	}
	first := r.check(c.t, a, replies, after)

	a = r.setup(c) // with all calls at once, none of which comes after another
	replies = c.atOnce(a, 8)
	if n := r.replays(c); n == 8 {
		c.t.Error("each of 8 calls at once says that it is a repetition")
	}
	return []announcement{first, r.check(c.t, a, replies, after)}
}

// wantReplays checks how many of the last calls say that they are repetitions.
func (r repetition) wantReplays(c *caller, want int) {
	c.t.Helper()
	if got := r.replays(c); got != want {
		c.t.Errorf("%d of %d calls say that they are repetitions, want %d", got, len(c.traces), want)
	}
}

// replays counts the last calls whose spans say that they are repetitions. A span
// may end after its reply has come.
func (r repetition) replays(c *caller) (n int) {
	c.t.Helper()
	c.until(func() bool {
		n = 0
		calls := 0
		for _, s := range c.spans.GetSpans() {
			if s.Name != r.rpc || s.SpanKind != trace.SpanKindServer || !slices.Contains(c.traces, s.SpanContext.TraceID().String()) {
				continue
			}
			calls++
			if slices.Contains(s.Attributes, idem.ReplayedKey.Bool(true)) {
				n++
			}
		}
		return calls == len(c.traces)
	})
	return n
}

// check checks that the replies are the same, and that the effect is still that
// of one call.
func (r repetition) check(t *testing.T, a attempt, replies [][]proto.Message, effect string) announcement {
	t.Helper()
	if got := a.effect(last(replies)); got != effect {
		t.Errorf("after %d calls: %s; of one call: %s", len(replies), got, effect)
	}
	keys := slices.Concat(a.keys, ids(last(replies)))
	claimed := 0
	for _, reply := range replies {
		for _, m := range reply {
			if r.claims != nil {
				claimed += r.claims(m)
			}
			if r.settle != nil {
				r.settle(m)
			}
		}
		if diff := cmp.Diff(reply, replies[0], protocmp.Transform()); diff != "" {
			t.Errorf("another reply (-got +first):\n%s", diff)
		}
	}
	if r.claims != nil && claimed != len(a.send) {
		t.Errorf("%d replies claim %d effects of %d", len(replies), claimed, len(a.send))
	}
	return announcement{name: t.Name(), keys: keys, want: r.announced}
}

// last returns the last message of the last reply.
func last(replies [][]proto.Message) proto.Message {
	reply := replies[len(replies)-1]
	return reply[len(reply)-1]
}

// ids returns the id of what the reply is about, if it has one: of its order,
// its user and so on.
func ids(reply proto.Message) (found []string) {
	reply.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsList() || f.IsMap() {
			return true
		}
		if id := f.Message().Fields().ByName("id"); id != nil {
			found = append(found, v.Message().Get(id).String())
		}
		return true
	})
	return found
}

// announcement is which events there must be about something.
type announcement struct {
	name string
	keys []string // one of which the event contains
	want string   // the subjects
}

// wantAnnounced compares the events of the broker to what had to be announced.
func wantAnnounced(t *testing.T, url string, all []announcement) {
	t.Helper()
	events := published(t, url)
	for _, a := range all {
		var got []string
		for _, e := range events {
			if slices.ContainsFunc(a.keys, func(k string) bool { return strings.Contains(string(e.Data), k) }) {
				got = append(got, e.Subject)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(strings.Join(got, " "), a.want); diff != "" {
			t.Errorf("%s: events about %q (-got +want):\n%s", a.name, a.keys, diff)
		}
	}
}

func published(t *testing.T, url string) (all []*jetstream.RawStreamMsg) {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for info := range js.ListStreams(t.Context()).Info() {
		stream, err := js.Stream(t.Context(), info.Config.Name)
		for seq := uint64(1); err == nil && seq <= info.State.LastSeq; seq++ {
			var msg *jetstream.RawStreamMsg
			if msg, err = stream.GetMsg(t.Context(), seq); err == nil {
				all = append(all, msg)
			}
		}
		if err != nil {
			t.Fatalf("stream %s: %v", info.Config.Name, err)
		}
	}
	return all
}

// atOnce makes n calls at the same time, all of which must succeed.
func (c *caller) atOnce(a attempt, n int) [][]proto.Message {
	c.t.Helper()
	replies, errs := make([][]proto.Message, n), make([]error, n)
	c.traces = make([]string, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		c.traces[i] = newTrace()
		wg.Go(func() {
			<-start
			replies[i], errs[i] = c.tryIn(c.traces[i], a.token, a.send...)
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatalf("of %d calls: %v", n, err)
	}
	return replies
}
