package events

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrMalformed is wrapped by the error of a handler that can't read an event,
// now or ever: it is logged and dropped, where any other error has it delivered
// again.
var ErrMalformed = errors.New("malformed event")

// Event is something that has happened.
type Event struct {
	ID      string    // the same however often it is delivered
	Subject string    // what happened, such as "order.created"
	Data    []byte    // a protobuf message, that of the subject
	Time    time.Time // when the broker took it
	Place             // a Tail resumes after it
}

// Place is where an event is among all of its stream. The zero value is nowhere.
type Place struct {
	// Born tells streams of one name apart, as one that is made anew counts from 1
	// again: when it was made, in nanoseconds. Only a Tail knows it.
	Born int64
	// Sequence counts from 1.
	Sequence uint64
}

// Unmarshal reads the event into m. Its error wraps ErrMalformed. A text with a
// zero byte is one: PostgreSQL can't even be asked for it, so whoever handles
// the event would fail for ever.
func (e Event) Unmarshal(m proto.Message) error {
	err := proto.Unmarshal(e.Data, m)
	if err == nil && bytes.IndexByte(e.Data, 0) >= 0 && hasZero(m.ProtoReflect()) {
		err = errors.New("a text has a zero byte")
	}
	if err != nil {
		return fmt.Errorf("%w: %s %s as %s: %w", ErrMalformed, e.Subject, e.ID, m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// hasZero reports whether a text in m, or in a message in it, has a zero byte.
func hasZero(m protoreflect.Message) bool {
	found := false
	_ = protorange.Range(m, func(p protopath.Values) error {
		if text, ok := p.Index(-1).Value.Interface().(string); ok && strings.ContainsRune(text, 0) {
			found = true
			return protorange.Terminate
		}
		return nil
	})
	return found
}

// eventOf reads a message and what the broker says of this delivery.
func eventOf(m jetstream.Msg) (Event, *jetstream.MsgMetadata, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Event{}, nil, fmt.Errorf("read metadata of %s: %w", m.Subject(), err)
	}
	e := Event{
		ID:      m.Headers().Get(jetstream.MsgIDHeader),
		Subject: m.Subject(),
		Data:    m.Data(),
		Time:    meta.Timestamp,
		Place:   Place{Sequence: meta.Sequence.Stream},
	}
	if !storable(e.ID) { // not from an outbox; its place identifies it as well
		e.ID = fmt.Sprintf("%s:%d", meta.Stream, e.Sequence)
	}
	return e, meta, nil
}

// maxID is how long the id of an event may be, in bytes; those of an outbox have 36.
const maxID = 100

// storable reports whether an id is one that every database can hold: an event
// that can't be recorded in the inbox would come again for ever.
func storable(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' })
}
