package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// The contracts whose events are decoded.
	_ "github.com/meshmart/meshmart/proto/inventory/v1"
	_ "github.com/meshmart/meshmart/proto/order/v1"
	_ "github.com/meshmart/meshmart/proto/payment/v1"
	_ "github.com/meshmart/meshmart/proto/product/v1"
	_ "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/db"
	"github.com/meshmart/meshmart/services/internal/db/dbtest"
)

// delivery is a message as the broker delivers it, and what it was answered.
type delivery struct {
	jetstream.Msg
	subject string
	data    []byte
	headers nats.Header
	meta    *jetstream.MsgMetadata // nil: it is not from a stream
	answer  string
}

func (d *delivery) Subject() string      { return d.subject }
func (d *delivery) Data() []byte         { return d.data }
func (d *delivery) Headers() nats.Header { return d.headers }

func (d *delivery) Metadata() (*jetstream.MsgMetadata, error) {
	if d.meta == nil {
		return nil, jetstream.ErrNotJSMessage
	}
	return d.meta, nil
}

func (d *delivery) Ack() error                       { d.answer += "ack"; return nil }
func (d *delivery) Nak() error                       { d.answer += "nak"; return nil }
func (d *delivery) NakWithDelay(time.Duration) error { d.answer += "later"; return nil }
func (d *delivery) TermWithReason(string) error      { d.answer += "term"; return nil }

// headersOf reads lines as a broker does; what it would not pass on is left out.
func headersOf(text string) nats.Header {
	h, err := nats.DecodeHeadersMsg([]byte("NATS/1.0\r\n" + text + "\r\n\r\n"))
	if err != nil {
		return nil
	}
	return h
}

// FuzzDelivery handles any message, twice: it is answered each time, and takes
// effect once or never. One that can't be read is dropped, not tried for ever.
func FuzzDelivery(f *testing.F) {
	d := dbtest.Open(f, dbtest.SQLite(f), Schema, logSchema)
	f.Fuzz(func(t *testing.T, subject, headers string, data []byte, sequence uint64) {
		effects := 0
		w := offline(t, d)
		handle := w.consumer.Handle
		w.consumer.Handle = func(ctx context.Context, tx *db.DB, e Event) error {
			tx.AfterCommit(func() { effects++ })
			return handle(ctx, tx, e)
		}
		m := &delivery{subject: subject, data: data, headers: headersOf(headers)}
		if sequence > 0 {
			m.meta = &jetstream.MsgMetadata{Stream: "ORDER", NumDelivered: sequence}
			m.meta.Sequence.Stream = sequence
		}
		if _, err := d.Exec(t.Context(), "DELETE FROM inbox"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m.answer = ""
			w.process(t.Context(), m)
			if m.answer != "ack" && m.answer != "term" && m.meta != nil {
				t.Fatalf("%q %q %q was answered %q", subject, headers, data, m.answer)
			}
		}
		if effects > 1 || (effects == 1) != (m.answer == "ack") {
			t.Errorf("%q took effect %d times", data, effects)
		}
	})
}

// FuzzEventID identifies any event by what every database can store.
func FuzzEventID(f *testing.F) {
	f.Fuzz(func(t *testing.T, headers string, sequence uint64) {
		m := &delivery{subject: "order.created", headers: headersOf(headers), meta: &jetstream.MsgMetadata{Stream: "ORDER"}}
		m.meta.Sequence.Stream = sequence
		e, _, err := eventOf(m)
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == "" || len(e.ID) > maxID || !utf8.ValidString(e.ID) || strings.ContainsRune(e.ID, 0) {
			t.Errorf("%q: got the id %q", headers, e.ID)
		}
	})
}

// announced returns the messages that the contracts announce, by their files.
func announced(t testing.TB) (all []protoreflect.MessageType) {
	t.Helper()
	protoregistry.GlobalTypes.RangeMessages(func(m protoreflect.MessageType) bool {
		if strings.HasSuffix(m.Descriptor().ParentFile().Path(), "/v1/events.proto") {
			all = append(all, m)
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only %d events", len(all))
	}
	return all
}

// FuzzUnmarshal reads any bytes as each of the contracts' events: what can be
// read says the same once more, and what can't is malformed.
func FuzzUnmarshal(f *testing.F) {
	all := announced(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range all {
			e := Event{ID: "1", Subject: "order.created", Data: data}
			m := kind.New().Interface()
			if err := e.Unmarshal(m); err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %v", kind.Descriptor().FullName(), err)
				}
				continue
			}
			again := kind.New().Interface()
			text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err == nil {
				err = Event{Data: text}.Unmarshal(again)
			}
			if err != nil || !proto.Equal(m, again) {
				t.Errorf("%s: %v became %v, %v", kind.Descriptor().FullName(), m, again, err)
			}
		}
	})
}

// FuzzSubject takes a subject or a pattern only if the broker would understand
// it as we do.
func FuzzSubject(f *testing.F) {
	f.Fuzz(func(t *testing.T, subject string) {
		if checkSubject(subject, false) == nil {
			if strings.ContainsAny(subject, "*> \t\r\n\x00") || checkSubject(subject, true) != nil {
				t.Errorf("%q may be announced", subject)
			}
		}
		streams, err := byStream([]string{subject})
		if err != nil {
			return
		}
		for stream, subjects := range streams {
			if fmt.Sprint(subjects) != fmt.Sprint([]string{subject}) || stream == "" || strings.ContainsAny(stream, "*>. ") ||
				!strings.HasPrefix(subject, strings.ToLower(stream)+".") {
				t.Errorf("%q is in %q", subject, stream)
			}
		}
	})
}

// FuzzTrace restores any saved trace, and saves what it has restored.
func FuzzTrace(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		saved := saveTrace(restoreTrace(t.Context(), text))
		if again := saveTrace(restoreTrace(t.Context(), saved)); again != saved {
			t.Errorf("%q became %s and then %s", text, saved, again)
		}
		if !utf8.ValidString(saved) || strings.ContainsRune(saved, 0) { // no database has it
			t.Errorf("%q became %q", text, saved)
		}
	})
}
