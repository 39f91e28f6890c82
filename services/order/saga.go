package order

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// The saga of an order: steps with an effect in another service each, until
// the order is decided, or undone.
//
//	RESERVE ---------> AUTHORIZE ---------> COMPLETE (CONFIRMED) ---> DONE (COMPLETED)
//	   |                   |                  |                         |
//	   | refused,          | refused,         | cancelled, or the       | cancelled
//	   | out of time       | out of time      | capture was refused     |
//	   |                   v                  |                         |
//	   |              UNDO_PAYMENT <----------+-------------------------+
//	   v                   v
//	   +-------------> UNDO_STOCK --> DONE (PENDING becomes REJECTED, CANCELLING becomes CANCELLED)
//
// COMPLETE is where the others act by themselves: they hear of the confirmation,
// and the order hears of what they did (complete.go). It has that step done only
// if the news do not come.
//
// It survives a crash at any point, because:
//
//  1. A step is in the row before its effect is tried. Who takes the order up
//     knows what may have happened, and does that step again: the order's id is
//     the key of each effect, so doing it again changes nothing.
//  2. A step ends with its outcome, a success or a refusal. Anything else, an
//     outage or no answer in time, is no outcome: the step is put off and done
//     again. Going forward that has an end, after which the order is turned
//     back; undoing has none.
//  3. An undo leaves a mark at the other service that refuses what it undoes.
//     So a Reserve or Authorize that is still under way when its undo is done,
//     sent by a process that was paused or by a network that was slow, comes
//     to nothing.
//  4. A row is written only as it was read (its revision). Of two who run the
//     same order the second to write learns that it was overtaken, and stops;
//     by 1 and 3 what it did meanwhile does no harm. Whoever wants an order
//     elsewhere (Cancel) just writes it there, without asking who runs it.
//  5. A row that is not at rest says when it is due. While a saga runs that is
//     the end of its lease, and no call outlives the lease it is made under;
//     so one order is rarely run twice, and an order whose process has died is
//     taken up by the next worker that finds it due.

// Step is what the saga of an order does next.
type Step string

const (
	stepReserve     Step = "RESERVE"
	stepAuthorize   Step = "AUTHORIZE"
	stepComplete    Step = "COMPLETE"
	stepUndoPayment Step = "UNDO_PAYMENT"
	stepUndoStock   Step = "UNDO_STOCK"
	stepDone        Step = "DONE"
)

// reasonPaymentFailed is why an order is cancelled that could not be paid.
const reasonPaymentFailed = "PAYMENT_FAILED"

const (
	// lease is how long a saga has an order to itself; a step begins a new one,
	// unless hardly any of it is used. It is longer than the slowest call may take
	// (4 s), and no longer than it should take to recover from a crash: nobody else
	// knows of that.
	lease = 5 * time.Second
	// leaseRest is what a call leaves of the lease, to write its outcome.
	leaseRest = 500 * time.Millisecond
	// leaseUsed is how much of a lease the next step may find used up. Not to begin
	// a new one saves the row's places in the indexes.
	leaseUsed = 250 * time.Millisecond
	// newsWithin is how long a CONFIRMED order waits for the news of its completion,
	// which take milliseconds. Then they are lost, or delayed by an outage of the
	// broker, and the order asks for what they tell.
	newsWithin = time.Minute
	// A step that is put off is tried again after firstWait, doubled each time
	// up to mostWait.
	firstWait = 200 * time.Millisecond
	mostWait  = 10 * time.Second
)

// progress is where the saga of an order is.
type progress struct {
	step     Step
	attempts int       // of the step, that had no outcome
	due      time.Time // when a worker takes the order up; zero: never
	token    string    // of the card, until the payment is authorized or refused
	revision int64     // rises with every write

	// What has been announced of a CONFIRMED order.
	committed, captured bool
}

// refusal is the outcome of a step that another service declines to do.
type refusal struct {
	Reason, Message string
	// Settled says that the card was declined for good: there is nothing to void.
	Settled bool
}

func (r *refusal) Error() string { return r.Reason + ": " + r.Message }

// start runs the order's saga in the background. It goes on when ctx ends: the
// caller may leave, the order stays.
func (s *Orders) start(ctx context.Context, o Order) {
	ctx = context.WithoutCancel(ctx)
	s.running.Go(func() { s.run(ctx, o) })
}

// run takes an order, of which we have the lease, from step to step until it is
// at rest or is put off.
func (s *Orders) run(ctx context.Context, o Order) {
	defer s.recovered(ctx, o)
	for o.step != stepDone {
		next, err := s.try(ctx, o)
		if err != nil {
			next = s.putOff(ctx, o, err)
		}
		next, goOn := s.schedule(o, next)
		o, err = s.written(ctx, o, next)
		if err != nil {
			s.lost(ctx, next, err)
			return
		}
		if !goOn {
			s.leave(o)
			return
		}
	}
}

// try does the order's step and returns the order as it goes on from there. An
// error says that there is no outcome yet.
func (s *Orders) try(ctx context.Context, o Order) (Order, error) {
	ctx, cancel := context.WithTimeout(ctx, o.due.Sub(s.now())-leaseRest)
	defer cancel()
	ctx, span := s.span(ctx, o, o.step.verb())
	defer span.End()
	next, err := s.do(ctx, o)
	return next, noted(span, err)
}

func (s *Orders) do(ctx context.Context, o Order) (Order, error) {
	switch o.step {
	case stepReserve:
		return s.reserve(ctx, o)
	case stepAuthorize:
		return s.authorize(ctx, o)
	case stepComplete:
		return s.complete(ctx, o)
	case stepUndoPayment:
		return s.undoPayment(ctx, o)
	case stepUndoStock:
		return s.undoStock(ctx, o)
	}
	return o, fmt.Errorf("the saga has no step %q", o.step) // of a newer version, perhaps: that one will take it up
}

func (s *Orders) reserve(ctx context.Context, o Order) (Order, error) {
	err := s.stock.Reserve(ctx, o.ID, o.Items)
	if r := refused(err); r != nil {
		// An earlier try of ours may still be under way, so Release all the same.
		return o.refuse(r, stepUndoStock), nil
	}
	return o.at(stepAuthorize), err
}

func (s *Orders) authorize(ctx context.Context, o Order) (Order, error) {
	id, err := s.payments.Authorize(ctx, o)
	switch r := refused(err); {
	case r != nil && r.Settled:
		o.PaymentID = id
		return o.refuse(r, stepUndoStock), nil
	case r != nil:
		return o.refuse(r, stepUndoPayment), nil
	case err != nil:
		return o, err
	}
	o.PaymentID, o.State, o.token = id, Confirmed, ""
	return o.at(stepComplete), nil
}

func (s *Orders) undoPayment(ctx context.Context, o Order) (Order, error) {
	err := s.payments.Void(ctx, o.ID)
	if fault.Reason(err) == "CAPTURED" {
		err = s.payments.Refund(ctx, o.ID)
	}
	return o.at(stepUndoStock), err
}

func (s *Orders) undoStock(ctx context.Context, o Order) (Order, error) {
	err := s.stock.Release(ctx, o.ID)
	switch o.State {
	case Pending:
		o.State = Rejected
	case Cancelling:
		o.State = Cancelled
	}
	return o.at(stepDone), err
}

// at returns the order at the beginning of a step.
func (o Order) at(step Step) Order {
	o.step, o.attempts = step, 0
	return o
}

// refuse returns the order on its way to REJECTED, by the undo that comes first.
func (o Order) refuse(r *refusal, undo Step) Order {
	o.Reason, o.Message, o.token = r.Reason, r.Message, ""
	return o.at(undo)
}

// cancel returns the order on its way to CANCELLED, whatever it is doing. What
// it is already undoing need not be undone again, and what its step has not
// come to yet not at all.
func (o Order) cancel(reason, message string) Order {
	o.State, o.Reason, o.Message, o.token = Cancelling, reason, message, ""
	if o.step == stepReserve || o.step == stepUndoStock {
		return o.at(stepUndoStock)
	}
	return o.at(stepUndoPayment)
}

// putOff returns the order with its step to be tried again later; or turned
// back, if it has waited too long for a service on its way forward.
func (s *Orders) putOff(ctx context.Context, o Order, err error) Order {
	late := s.now().Sub(o.CreateTime) > s.decideWithin
	log := s.log.With("order", o.ID, "step", string(o.step), "err", err.Error())
	switch {
	case late && o.step == stepReserve:
		log.WarnContext(ctx, "order is rejected, the inventory is away")
		return o.refuse(&refusal{Reason: "INVENTORY_UNAVAILABLE", Message: "the stock could not be reserved in time; nothing was charged"}, stepUndoStock)
	case late && o.step == stepAuthorize:
		log.WarnContext(ctx, "order is rejected, the payment is away")
		return o.refuse(&refusal{Reason: "PAYMENT_UNAVAILABLE", Message: "the payment could not be made in time; nothing was charged"}, stepUndoPayment)
	}
	o.attempts++
	if o.attempts == 1 { // one line for an outage, however long
		log.WarnContext(ctx, "order waits for another attempt")
	}
	return o
}

// schedule sets when next, which comes after o, is due, and reports whether we
// go on with it at once, under a lease that is new or as good as that.
func (s *Orders) schedule(o, next Order) (Order, bool) {
	now := s.now()
	switch {
	case next.step == stepDone:
		next.due = time.Time{}
		return next, true
	case next.step == stepComplete && o.step != stepComplete:
		next.due = now.Add(newsWithin)
		return next, false
	case next.step == o.step:
		next.due = now.Add(jitter(min(firstWait<<min(next.attempts-1, 20), mostWait)))
		return next, false
	case s.closing.Load():
		next.due = now // for another replica
		return next, false
	}
	if o.due.Sub(now) < lease-leaseUsed {
		next.due = now.Add(lease)
	}
	return next, true
}

// leave has the worker look when the order is due that is put off. Of one that
// waits for news it need not know: nearly all of them come.
func (s *Orders) leave(o Order) {
	if o.step != stepComplete {
		s.wakeWorker()
	}
}

// written is write with an end, so that a database that hangs holds nobody for
// ever.
func (s *Orders) written(ctx context.Context, o, next Order) (Order, error) {
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	return s.write(ctx, o, next)
}

// lost tells the log why we stop with an order that is not at rest. It is taken
// up again when its lease ends.
func (s *Orders) lost(ctx context.Context, o Order, err error) {
	if errors.Is(err, errOvertaken) {
		s.log.DebugContext(ctx, "order is in other hands", "order", o.ID, "step", string(o.step))
		return
	}
	s.log.WarnContext(ctx, "order is left to a worker", "order", o.ID, "step", string(o.step), "err", err.Error())
}

// recovered keeps a panic from ending the process, which would be started again
// and take up the same order.
func (s *Orders) recovered(ctx context.Context, o Order) {
	if p := recover(); p != nil {
		s.log.ErrorContext(ctx, "panic", "order", o.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

func refused(err error) *refusal {
	var r *refusal
	errors.As(err, &r)
	return r
}

// jitter returns d, a quarter more or less, so that those who wait part.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }
