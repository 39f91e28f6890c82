package events

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/meshmart/meshmart/services/internal/db/dbtest"
	"github.com/meshmart/meshmart/services/internal/events/embedded"
)

func TestEmbeddedKeepsItsStreams(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := filepath.Join(t.TempDir(), "broker")
	for run := range 3 {
		start := time.Now()
		conn, stop, err := embedded.Start(embedded.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Log("started in", time.Since(start))
		bus, err := Connect(Config{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		if err := bus.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		o := NewOutbox(dbtest.Open(t, dbtest.SQLite(t), Schema), bus)
		announce(t, o, "order.created", "a")
		flush(t, o)
		same(t, len(kept(t, bus, "ORDER")), run+1)
		o.db.Close()
		bus.Close()
		stop()
		stop() // a second time is of no consequence
	}
}

func TestEmbeddedTellsWhyItCannotStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := embedded.Start(embedded.Config{Dir: file})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
}

func TestReadySaysThatTheBrokerIsAway(t *testing.T) {
	br := newBroker(t)
	bus := br.bus()
	if err := bus.Ready(t.Context()); err == nil {
		t.Error("before the start: got nil, want an error")
	}
	online := bus.nextConnect()
	br.start()
	receive(t, online)
	if err := bus.Ready(t.Context()); err != nil {
		t.Errorf("after the start: got %v, want nil", err)
	}
	br.stop()
	if err := bus.Ready(t.Context()); err == nil {
		t.Error("after the stop: got nil, want an error")
	}
}

// BenchmarkEmbedded is about the cost of SyncAlways: windows of events of 1 KB,
// each event acknowledged.
func BenchmarkEmbedded(b *testing.B) {
	for _, synced := range []bool{true, false} {
		for _, window := range []int{1, windowSize} {
			b.Run(fmt.Sprintf("synced=%v/window=%d", synced, window), func(b *testing.B) {
				conn, stop, err := embedded.Start(embedded.Config{Dir: b.TempDir(), NoSync: !synced})
				if err != nil {
					b.Fatal(err)
				}
				defer stop()
				bus, err := Connect(Config{Conn: conn})
				if err != nil {
					b.Fatal(err)
				}
				defer bus.Close()
				publishWindows(b, &Outbox{bus: bus}, window)
			})
		}
	}
}

func publishWindows(b *testing.B, o *Outbox, window int) {
	payload := make([]byte, 1024)
	sent := 0
	for b.Loop() {
		rows := make([]row, window)
		for i := range rows {
			sent++
			rows[i] = row{id: nats.NewInbox(), subject: "order.created", headers: "{}", payload: payload}
		}
		if _, err := o.publish(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "events/s")
}
