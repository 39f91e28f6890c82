package events

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshmart/meshmart/services/internal/db"
)

// What a database can't hold would have its event come again for ever.
func TestAnEventThatCannotBeStoredIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		for _, tt := range []struct{ name, id, text, answer string }{
			{"good", "a", "tea", "ack"}, {"zero byte in the id", "a\x00", "coffee", "ack"}, {"id that is not UTF-8", "\xff", "milk", "ack"},
			{"zero byte in a text", "b", "su\x00gar", "term"},
		} {
			data, err := proto.Marshal(wrapperspb.String(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			m := &delivery{
				subject: "order.created", data: data, meta: &jetstream.MsgMetadata{Stream: "ORDER"},
				headers: nats.Header{jetstream.MsgIDHeader: {tt.id}},
			}
			m.meta.Sequence.Stream = uint64(len(tt.text))
			offline(t, d).process(t.Context(), m)
			if m.answer != tt.answer {
				t.Errorf("%s: answered %q, want %q", tt.name, m.answer, tt.answer)
			}
		}
		same(t, logged(t, d), "coffee milk tea")
	})
}

// offline returns the ledger of a process that has no broker.
func offline(t testing.TB, d *db.DB) *worker {
	t.Helper()
	bus := &Bus{cfg: Config{}.withDefaults()}
	if err := bus.measure(); err != nil {
		t.Fatal(err)
	}
	bus.tracer = bus.cfg.Traces.Tracer(scope)
	return &worker{bus: bus, log: bus.cfg.Log, consumer: Consumer{
		Name: "ledger", DB: d,
		Handle: func(ctx context.Context, tx *db.DB, e Event) error {
			text, err := read(e)
			if err != nil {
				return err
			}
			return add(ctx, tx, text)
		},
	}}
}
