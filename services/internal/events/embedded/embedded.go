// Package embedded is a JetStream broker inside the process, for a shop on one
// machine and for tests. It is apart from package events so that a service that
// runs by itself does not carry a broker.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Config says what kind of broker it is.
type Config struct {
	// Dir is where the streams are kept; no other process may use it meanwhile.
	Dir string
	// Log hears of warnings and errors; nil is silence.
	Log *slog.Logger
	// NoSync leaves it to the system when events reach the disk.
	//
	// Without it each event is synced before it is acknowledged. The outbox
	// deletes what is acknowledged, and one broker has no replica to ask, so an
	// event that a power failure took from the page cache would be lost. The
	// other way, to keep rows in the outbox for a while and send them again
	// after a crash, costs each of them more writes to the database, which syncs
	// too. BenchmarkEmbedded of package events on a virtual disk: 6,000 events/s
	// synced, 88,000/s not. The shop on one machine announces less than 1,000/s,
	// for which a disk may take 1 ms to sync.
	NoSync bool
}

// Start starts a broker without a socket. The first result is for
// events.Config.Conn. stop returns when everything is on disk.
//
// A start takes some 3 ms, and 1 ms more for each 1,000 events of the last two
// minutes, whose ids it reads again.
func Start(cfg Config) (conn nats.InProcessConnProvider, stop func(), err error) {
	s, err := server.NewServer(&server.Options{
		ServerName:         "embedded",
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		SyncAlways:         !cfg.NoSync,
		JetStreamMaxMemory: 64 << 20, // the consumers of tails
		JetStreamMaxStore:  16 << 30, // what the streams' MaxBytes may add up to; nothing is set aside
	})
	if err != nil {
		return nil, nil, fmt.Errorf("embedded broker in %s: %w", cfg.Dir, err)
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &brokerLog{log: log}
	s.SetLoggerV2(l, false, false, false)
	s.Start()
	stop = sync.OnceFunc(func() { s.Shutdown(); s.WaitForShutdown() })
	if err := l.fatal(); err != nil {
		stop()
		return nil, nil, fmt.Errorf("embedded broker in %s: %w", cfg.Dir, err)
	}
	if !s.ReadyForConnections(10 * time.Second) {
		stop()
		return nil, nil, fmt.Errorf("embedded broker in %s: not ready after 10s", cfg.Dir)
	}
	return s, stop, nil
}

// brokerLog passes on what the broker warns of. Its notices, some twenty at each
// start, are for debugging.
type brokerLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	died string // what it could not start for
}

func (l *brokerLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.died == "" {
		return nil
	}
	return errors.New(l.died)
}

func (l *brokerLog) Fatalf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.died = fmt.Sprintf(format, args...)
}

func (l *brokerLog) Errorf(format string, args ...any) {
	l.log.Error("broker: " + fmt.Sprintf(format, args...))
}

func (l *brokerLog) Warnf(format string, args ...any) {
	l.log.Warn("broker: " + fmt.Sprintf(format, args...))
}

func (l *brokerLog) Noticef(format string, args ...any) {
	l.log.Debug("broker: " + fmt.Sprintf(format, args...))
}

func (l *brokerLog) Debugf(string, ...any) {}
func (l *brokerLog) Tracef(string, ...any) {}
