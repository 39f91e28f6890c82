package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Retention is how long a stream keeps an event. A consumer that is away for
// longer misses some, and a watcher can't resume from that far back.
const Retention = 7 * 24 * time.Hour

// dedupeWindow is how long the broker knows an event by its id. It saves work;
// what counts is the inbox.
const dedupeWindow = 2 * time.Minute

// ensure makes the stream if it is not there, and brings its limits up to date.
func (b *Bus) ensure(ctx context.Context, stream string) error {
	if !b.nc.IsConnected() {
		return errOffline
	}
	b.mu.Lock()
	known := b.known[stream]
	b.mu.Unlock()
	if known {
		return nil
	}
	cfg := jetstream.StreamConfig{
		Name:       stream,
		Subjects:   []string{strings.ToLower(stream) + ".>"},
		Storage:    jetstream.FileStorage,
		Discard:    jetstream.DiscardOld,
		MaxAge:     Retention,
		MaxBytes:   b.cfg.MaxBytes,
		Duplicates: dedupeWindow,
		Replicas:   b.cfg.Replicas,
	}
	// To create a stream that is there just like that changes nothing. An update
	// writes its configuration anew, and in nats-server 2.15 does so in a race with
	// the creation of its consumers.
	_, err := b.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // with other limits
		_, err = b.js.UpdateStream(ctx, cfg)
	}
	if err != nil {
		return fmt.Errorf("make stream %s: %w", stream, err)
	}
	b.mu.Lock()
	b.known[stream] = true
	b.mu.Unlock()
	return nil
}

// forget makes the next ensure ask the broker again.
func (b *Bus) forget(stream string) {
	b.mu.Lock()
	delete(b.known, stream)
	b.mu.Unlock()
}

// streamOf returns the stream that keeps a subject: ORDER for order.created.
func streamOf(subject string) string {
	first, _, _ := strings.Cut(subject, ".")
	return strings.ToUpper(first)
}

// checkSubject refuses a subject that is not "order.created" or the like, in
// lower case so that the stream's name tells its subjects. The wildcards * and
// > of NATS may stand for what follows the first word, to those who listen.
func checkSubject(subject string, wildcards bool) error {
	words := strings.Split(subject, ".")
	for i, w := range words {
		wild := i > 0 && wildcards && (w == "*" || w == ">" && i == len(words)-1)
		if !wild && (w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
			return fmt.Errorf("subject %q: not words of a-z, 0-9, - and _ with dots between", subject)
		}
	}
	if len(words) < 2 {
		return fmt.Errorf("subject %q: must be the stream and the event, like order.created", subject)
	}
	return nil
}

// byStream groups subjects by the stream that keeps them.
func byStream(subjects []string) (map[string][]string, error) {
	if len(subjects) == 0 {
		return nil, fmt.Errorf("no subjects")
	}
	groups := map[string][]string{}
	for _, s := range slices.Compact(slices.Sorted(slices.Values(subjects))) {
		if err := checkSubject(s, true); err != nil {
			return nil, err
		}
		groups[streamOf(s)] = append(groups[streamOf(s)], s)
	}
	return groups, nil
}
