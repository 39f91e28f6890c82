package events

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
)

// ErrMalformed is wrapped by the error of a handler that can't read an event,
// now or ever: it is logged and dropped, where any other error has it delivered
// again.
var ErrMalformed = errors.New("malformed event")

// Event is something that has happened.
type Event struct {
	ID       string    // the same however often it is delivered
	Subject  string    // what happened, such as "order.created"
	Data     []byte    // a protobuf message, that of the subject
	Time     time.Time // when the broker took it
	Sequence uint64    // its place in its stream, from 1; a Tail resumes after it
}

// Unmarshal reads the event into m. Its error wraps ErrMalformed.
func (e Event) Unmarshal(m proto.Message) error {
	if err := proto.Unmarshal(e.Data, m); err != nil {
		return fmt.Errorf("%w: %s %s as %s: %w", ErrMalformed, e.Subject, e.ID, m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// eventOf reads a message and what the broker says of this delivery.
func eventOf(m jetstream.Msg) (Event, *jetstream.MsgMetadata, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Event{}, nil, fmt.Errorf("read metadata of %s: %w", m.Subject(), err)
	}
	e := Event{
		ID:       m.Headers().Get(jetstream.MsgIDHeader),
		Subject:  m.Subject(),
		Data:     m.Data(),
		Time:     meta.Timestamp,
		Sequence: meta.Sequence.Stream,
	}
	if e.ID == "" { // not from an outbox; its place identifies it as well
		e.ID = fmt.Sprintf("%s:%d", meta.Stream, e.Sequence)
	}
	return e, meta, nil
}
