package payment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// reasonChargeVoided is the decline of a charge that was given back before.
const reasonChargeVoided = "AUTHORIZATION_VOIDED"

// errOutage is what a caller of the simulator gets if the network fails.
var errOutage = errors.New("connection to the processor lost")

// simulator is a Processor for a shop that has none. It knows Stripe's test
// cards, takes its time, and fails as networks do: before the request arrives,
// or after it took effect.
type simulator struct {
	book    *book
	cards   map[string]card
	latency time.Duration // of a call
	jitter  time.Duration // at most so much is added to it
	failing float64       // share of the calls
	clock   func() time.Time

	mu   sync.Mutex
	rand *rand.Rand // guarded by mu
}

// newSimulator returns a simulator with the settings of cfg. The same seed
// lets the same calls fail, if they come one after the other; 0 is any.
func newSimulator(b *book, cfg *config, clock func() time.Time) *simulator {
	seed := cfg.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &simulator{
		book: b, cards: testCards(), clock: clock,
		latency: cfg.Latency, jitter: cfg.Jitter, failing: cfg.FailureRate,
		rand: rand.New(rand.NewPCG(seed, seed)),
	}
}

// fate is what chance decides for one call.
type fate struct {
	latency time.Duration
	lost    bool // the request does not arrive
	mute    bool // it does, but the answer gets lost
}

func (s *simulator) draw() fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := fate{latency: s.latency}
	if s.jitter > 0 {
		f.latency += time.Duration(s.rand.Int64N(int64(s.jitter) + 1))
	}
	if r := s.rand.Float64(); r < s.failing {
		f.lost = r < s.failing/2
		f.mute = !f.lost
	}
	return f
}

// call has effect happen half-way through the latency.
func (s *simulator) call(ctx context.Context, effect func() error) error {
	f := s.draw()
	if err := sleep(ctx, f.latency/2); err != nil {
		return err
	}
	if f.lost {
		return errOutage
	}
	answer := effect()
	if err := sleep(ctx, f.latency-f.latency/2); err != nil {
		return err
	}
	if f.mute {
		return errOutage
	}
	return answer
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *simulator) Authorize(ctx context.Context, in AuthorizeInput) (ref string, err error) {
	err = s.call(ctx, func() error {
		card := cardOf(s.cards, in.Token)
		c := charge{Key: in.Key, Ref: newRef(), State: authorized, Amount: in.Amount, CaptureDecline: card.captureDecline}
		if card.decline != "" {
			c.State, c.Reason = declined, card.decline
		}
		c, err := s.book.add(ctx, c, s.clock())
		if err != nil {
			return err
		}
		ref = c.Ref
		return refusal(c)
	})
	if err != nil {
		return "", err
	}
	return ref, nil
}

func newRef() string { return "sim_" + uuid.NewString() }

// refusal returns the decline of a charge that can't be taken.
func refusal(c charge) error {
	switch c.State {
	case declined:
		return &Decline{Reason: c.Reason, Message: sentence(c.Reason)}
	case voided, refunded:
		return &Decline{Reason: reasonChargeVoided, Message: sentence(reasonChargeVoided)}
	}
	return nil
}

func (s *simulator) Capture(ctx context.Context, ch Charge) error {
	return s.call(ctx, func() error {
		c, err := s.book.move(ctx, ch.Key, authorized, captured, s.clock())
		if err != nil {
			return err
		}
		if err := refusal(c); err != nil {
			return err
		}
		return want(c, captured)
	})
}

func (s *simulator) Void(ctx context.Context, ch Charge) error {
	return s.call(ctx, func() error {
		// If there is no charge, this is what an authorization will find.
		if _, err := s.book.add(ctx, charge{Key: ch.Key, Ref: newRef(), State: voided}, s.clock()); err != nil {
			return err
		}
		c, err := s.book.move(ctx, ch.Key, authorized, voided, s.clock())
		if err == nil && c.State == captured {
			c, err = s.book.move(ctx, ch.Key, captured, refunded, s.clock())
		}
		if err != nil || c.State == declined || c.State == refunded {
			return err
		}
		return want(c, voided)
	})
}

func (s *simulator) Refund(ctx context.Context, ch Charge) error {
	return s.call(ctx, func() error {
		c, err := s.book.move(ctx, ch.Key, captured, refunded, s.clock())
		if err != nil {
			return err
		}
		return want(c, refunded)
	})
}

// want returns an error if the charge is not in that state: a call that no
// payment can come to.
func want(c charge, st state) error {
	if c.State != st {
		return fmt.Errorf("charge %s is %q, not %s", c.Key, c.State, st)
	}
	return nil
}
