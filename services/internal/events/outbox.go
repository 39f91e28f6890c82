package events

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/meshmart/meshmart/services/internal/db"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// Schema is the tables of outbox and inbox, for the database of each service
// that announces or consumes.
var Schema = db.Schema{Name: "events", FS: schemaFiles}

// maxEvent bounds an event, in bytes. It is refused when it is written: one that
// the broker does not take (by default more than 1 MiB) would stay in the outbox
// for ever.
const maxEvent = 512 << 10

// Outbox is where a service writes what it announces. It is a table of the
// service's own database, so an event is there if and only if its transaction
// was committed; Run publishes it from there, at least once.
//
// Events are published in the order of their ids, by one replica at a time.
// What a second transaction adds after it has seen the first one's changes comes
// after it, as long as the clocks of the replicas agree to within the time that
// an event spends in the outbox.
type Outbox struct {
	db    *db.DB
	bus   *Bus
	owner string        // this replica, in outbox_lease
	wake  chan struct{} // something was committed
	turn  sync.Mutex    // Run and Flush have one lease between them
	until time.Time     // when our lease ends; zero: we have none
}

// NewOutbox returns the outbox in d that is published to b.
func NewOutbox(d *db.DB, b *Bus) *Outbox {
	o := &Outbox{db: d, bus: b, owner: uuid.NewString(), wake: make(chan struct{}, 1)}
	if err := o.measure(); err != nil {
		b.cfg.Log.Warn("the outbox is not measured", "err", err.Error())
	}
	return o
}

// Add announces m under the subject once tx is committed. The event's id is new;
// the trace of ctx goes on in those who consume it.
func (o *Outbox) Add(ctx context.Context, tx *db.DB, subject string, m proto.Message) error {
	row, err := o.row(ctx, subject, m)
	if err != nil {
		return err
	}
	err = tx.Later(ctx, `INSERT INTO outbox (id, subject, payload, headers, create_time) VALUES ($1, $2, $3, $4, $5)`, row...)
	if err != nil {
		return fmt.Errorf("announce %s: %w", subject, err)
	}
	tx.AfterCommit(o.notify)
	return nil
}

// Announcement is an event that is to be announced.
type Announcement struct {
	Ctx     context.Context // whose trace goes on
	Subject string
	Message proto.Message
}

// mostRows bounds those of one statement.
const mostRows = 128

// AddAll is Add of all, in their order, for who changes much at once.
func (o *Outbox) AddAll(ctx context.Context, tx *db.DB, all []Announcement) error {
	for some := range slices.Chunk(all, mostRows) {
		rows := make([][]any, len(some))
		for i, a := range some {
			var err error
			if rows[i], err = o.row(a.Ctx, a.Subject, a.Message); err != nil {
				return err
			}
		}
		table, args := tx.Values([]string{"TEXT", "TEXT", "BYTEA", "TEXT", "BIGINT"}, rows)
		err := tx.Later(ctx, `INSERT INTO outbox (id, subject, payload, headers, create_time)
			SELECT column1, column2, column3, column4, column5 FROM `+table+` WHERE column1 IS NOT NULL`, args...)
		if err != nil {
			return fmt.Errorf("announce %d events: %w", len(some), err)
		}
		tx.AfterCommit(o.notify)
	}
	return nil
}

// row returns the columns of a new event.
func (o *Outbox) row(ctx context.Context, subject string, m proto.Message) ([]any, error) {
	if err := checkSubject(subject, false); err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("announce %s: %w", subject, err)
	}
	if len(payload) > maxEvent {
		return nil, fmt.Errorf("announce %s: %d bytes are too many", subject, len(payload))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("announce %s: %w", subject, err)
	}
	return []any{id.String(), subject, payload, saveTrace(ctx), db.Micros(o.bus.cfg.Clock())}, nil
}

// notify wakes the relay; it never blocks.
func (o *Outbox) notify() {
	select {
	case o.wake <- struct{}{}:
	default: // it is awake already
	}
}
