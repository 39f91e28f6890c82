package shop

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

// doctored is what somebody has done to books that balanced.
type doctored struct {
	name    string
	service string // whose database
	sql     string
	streams func(context.Context, jetstream.JetStream) error
	want    string // is in a violation
}

func doctoreds() []doctored {
	return []doctored{
		{name: "captured twice", service: "payment", want: "a payment again that does not exist",
			sql: `INSERT INTO processor_charges SELECT 'again', 'again', state, currency, amount, reason, capture_decline, create_time, update_time
				FROM processor_charges WHERE state = 'CAPTURED'`},
		{name: "captured too much", service: "payment", want: "at the processor CAPTURED of",
			sql: `UPDATE processor_charges SET amount = amount * 2 WHERE state = 'CAPTURED'`},
		{name: "captured and forgotten", service: "payment", want: "the ledger has [AUTHORIZE]",
			sql: `DELETE FROM ledger WHERE kind = 'CAPTURE'`},
		{name: "captured for nothing", service: "order", want: "is CANCELLED and its payment",
			sql: `UPDATE orders SET state = 'CANCELLED' WHERE state = 'COMPLETED'`},
		{name: "never captured", service: "payment", want: "is COMPLETED for",
			sql: `UPDATE payments SET state = 'AUTHORIZED' WHERE state = 'CAPTURED'`},
		{name: "not refunded", service: "payment", want: "is REFUNDED, and at the processor",
			sql: `UPDATE processor_charges SET state = 'CAPTURED' WHERE state = 'REFUNDED'`},
		{name: "voided twice over", service: "payment", want: "is DECLINED and the ledger has [VOID]",
			sql: `INSERT INTO ledger SELECT 'again', id, 'VOID', currency, amount, create_time FROM payments WHERE state = 'DECLINED' AND processor_ref = ''`},
		{name: "sold more than bought", service: "inventory", want: "and the orders have reserved 0 and bought",
			sql: `UPDATE stock SET sold = sold + 1, available = available - 1 WHERE sold > 0`},
		{name: "never released", service: "inventory", want: "is REJECTED and its reservation is RESERVED",
			sql: `UPDATE reservations SET state = 'RESERVED' WHERE state = 'RELEASED'`},
		{name: "not marked as released", service: "inventory", want: "is REJECTED and its reservation does not exist",
			sql: `DELETE FROM reservations WHERE order_id NOT IN (SELECT order_id FROM reservation_items)`},
		{name: "pending for ever", service: "order", want: "is not at rest: PENDING",
			sql: `UPDATE orders SET state = 'PENDING' WHERE state = 'COMPLETED'`},
		{name: "card kept", service: "order", want: "still has the token",
			sql: `UPDATE orders SET payment_token = 'tok_visa' WHERE state = 'COMPLETED'`},
		{name: "wrong price", service: "order", want: "and its items of",
			sql: `UPDATE order_items SET unit_price = unit_price + 1`},
		{name: "completed unconfirmed", service: "order", want: "has the history [PENDING COMPLETED]",
			sql: `DELETE FROM order_changes WHERE state = 'CONFIRMED'`},
		{name: "not applied", service: "payment", want: "the payment service has not applied order.confirmed",
			sql: `DELETE FROM inbox`},
		{name: "applied from nowhere", service: "inventory", want: "the inventory service has applied an event nowhere that is in no stream",
			sql: `INSERT INTO inbox VALUES ('inventory', 'nowhere', 0)`},
		{name: "announced and not done", service: "inventory", want: "stock.reserved of order", // was announced and did not happen
			sql: `DELETE FROM reservation_items`},
		{name: "event lost", want: "payment.captured of order", streams: loseEvent("PAYMENT", "payment.captured")},
		{name: "event announced twice", want: "was announced twice", streams: repeatEvent("ORDER", "order.completed")},
	}
}

// TestAuditFindsWhatIsWrong holds the audit to what it is for: it finds nothing
// in the books of a shop at rest, and then what was done to them.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir, nil)
	s := &shopper{ctx: t.Context(), market: m, token: m.customer(), product: m.product(10), books: ledgers(t, dir, nil)}
	for _, p := range m.must("GET", "/v1/products?page_size=2", "", nil)["products"].([]any) {
		if id := p.(object)["id"].(string); id != s.product {
			s.rare = id
		}
	}
	m.must("PUT", "/v1/stock/"+s.rare, m.admin(), object{"available": 0})
	for _, story := range stories() {
		one := *s
		one.request = uuid.NewString()
		if err := story.tell(&one); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	m.stop()
	sum := wantBooks(t, dir, s.books)
	if sum.Orders["COMPLETED"] != 1 || sum.Orders["REJECTED"] != 2 || sum.Orders["CANCELLED"] != 4 || sum.Sold != 2 || len(sum.Captured) != 1 {
		t.Errorf("the books add up to %+v", sum)
	}
	for _, d := range doctoreds() {
		t.Run(d.name, func(t *testing.T) { d.wantFound(t, dir) })
	}
}

// wantFound does it to a copy of the books.
func (d doctored) wantFound(t *testing.T, original string) {
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	if d.sql != "" {
		pool, err := sql.Open("sqlite", filepath.Join(dir, d.service+".db"))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		result, err := pool.ExecContext(t.Context(), d.sql)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n == 0 || err != nil {
			t.Fatalf("%d rows were changed: %v", n, err)
		}
	}
	books := ledgers(t, dir, nil)
	withStreams(t, dir, func(js jetstream.JetStream) {
		if d.streams != nil {
			if err := d.streams(t.Context(), js); err != nil {
				t.Fatal(err)
			}
		}
		books.Broker = js
		_, wrong, err := books.Check(t.Context())
		if err != nil || !slices.ContainsFunc(wrong, func(v string) bool { return strings.Contains(v, d.want) }) {
			t.Errorf("got %v, %q, want one with %q", err, wrong, d.want)
		}
	})
}

// loseEvent takes the last event of a subject out of its stream.
func loseEvent(stream, subject string) func(context.Context, jetstream.JetStream) error {
	return func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return err
		}
		return s.DeleteMsg(ctx, m.Sequence)
	}
}

// repeatEvent announces the last event of a subject again, as if it were another.
func repeatEvent(stream, subject string) func(context.Context, jetstream.JetStream) error {
	return func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			return err
		}
		_, err = js.Publish(ctx, subject, m.Data, jetstream.WithMsgID("again"))
		return err
	}
}
