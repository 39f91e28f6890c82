package order

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/services/internal/breaker"
	"github.com/meshmart/meshmart/services/internal/fault"
	"github.com/meshmart/meshmart/services/internal/idem"
	"github.com/meshmart/meshmart/services/internal/money"
	"github.com/meshmart/meshmart/services/internal/traceparent"
)

// Request asks for an order.
type Request struct {
	UserID      string
	ID          string // the request_id: the same for the same request of the user
	Fingerprint []byte // of everything else in the request
	Items       []Item // ProductID and Quantity only
	Token       string // what the payment processor knows the card by
}

// Place takes an order in and returns it decided; or still PENDING if ctx has
// too little time left, and then it is decided all the same. A request that
// came before returns the order that it made.
//
// Before the order is in the database anything may fail, and nothing has
// happened. From then on there is no error: the caller gets an order.
func (s *Orders) Place(ctx context.Context, r Request) (Order, error) {
	o, err := s.placed(ctx, r)
	if !errors.Is(err, errUnknown) {
		return o, err
	}
	if err := s.accepting(ctx); err != nil {
		return Order{}, err
	}
	o, err = s.draft(ctx, r)
	if err != nil {
		return Order{}, err
	}
	woken, leave := s.hub.join(o.ID)
	defer leave()
	added, err := s.add(ctx, o, r)
	if err != nil {
		return Order{}, err
	}
	if !added { // the same request, at the same time
		return s.placed(ctx, r)
	}
	s.start(ctx, o)
	return s.await(ctx, o, woken, func(o Order) bool { return o.State != Pending }), nil
}

// tryAgain is when who was refused for an outage may come again.
const tryAgain = time.Second

// accepting returns UNAVAILABLE while a service that every order needs is known
// to be out: an order would only wait for it. Orders taken in before do wait.
func (s *Orders) accepting(ctx context.Context) error {
	switch {
	case s.away(ctx, "product"):
		return fault.Out("CATALOG_UNAVAILABLE", tryAgain, "prices can't be looked up at the moment, so no order was placed; please try again in a little while")
	case s.away(ctx, "inventory"):
		return fault.Out("INVENTORY_UNAVAILABLE", tryAgain, "the stock can't be checked at the moment, so no order was placed; please try again in a little while")
	case s.away(ctx, "payment"):
		return fault.Out("PAYMENT_UNAVAILABLE", tryAgain, "payments can't be made at the moment, so no order was placed and nothing was charged; please try again in a little while")
	}
	return nil
}

// away reports whether a service is known to be out, and says so on the span.
func (s *Orders) away(ctx context.Context, service string) bool {
	out := s.out(service)
	if out {
		breaker.Refused(ctx, service, breaker.Open)
	}
	return out
}

// placed returns the order that the request made when it came before, decided
// if the time allows, or errUnknown.
func (s *Orders) placed(ctx context.Context, r Request) (Order, error) {
	o, fingerprint, err := s.store.byRequest(ctx, r.UserID, r.ID)
	if err != nil {
		return Order{}, err
	}
	if !bytes.Equal(fingerprint, r.Fingerprint) {
		return Order{}, fault.Violations(fault.Violation{
			Field: "request_id", Reason: "REQUEST_ID_REUSED", Text: "was used for another request; a new request needs a new id",
		})
	}
	idem.Replayed(ctx)
	if o.State != Pending {
		return o, nil
	}
	woken, leave := s.hub.join(o.ID)
	defer leave()
	o = s.reload(ctx, o) // it may have been decided before we joined
	return s.await(ctx, o, woken, func(o Order) bool { return o.State != Pending }), nil
}

// draft returns the order that the request asks for, at the prices of now.
func (s *Orders) draft(ctx context.Context, r Request) (Order, error) {
	ids := make([]string, len(r.Items))
	for i, item := range r.Items {
		if slices.Contains(ids, item.ProductID) { // in other letters than the contract compares
			return Order{}, fault.Invalid(fmt.Sprintf("items[%d].product_id", i), "a product may come once only")
		}
		ids[i] = item.ProductID
	}
	products, err := s.catalog.Products(ctx, ids)
	if err != nil {
		return Order{}, fmt.Errorf("prices: %w", err)
	}
	items := make([]Item, len(r.Items))
	for i, p := range products {
		items[i] = Item{ProductID: p.ID, SKU: p.SKU, Name: p.Name, Quantity: r.Items[i].Quantity, UnitPrice: p.Price}
	}
	total, err := sum(items)
	if err != nil {
		return Order{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Order{}, fmt.Errorf("make an id: %w", err)
	}
	now := s.now()
	return Order{
		ID: id.String(), UserID: r.UserID, State: Pending, Items: items, Total: total, Trace: traceparent.Save(ctx),
		Version: 1, CreateTime: now, UpdateTime: now,
		progress: progress{step: stepReserve, due: now.Add(lease), token: r.Token, revision: 1},
	}, nil
}

// sum returns what the items cost together.
func sum(items []Item) (money.Amount, error) {
	var total money.Amount
	for _, item := range items {
		price, err := item.UnitPrice.Times(item.Quantity)
		if err == nil {
			total, err = total.Add(price)
		}
		switch {
		case errors.Is(err, money.ErrMixed):
			return total, fault.Invalid("items", "must be of one currency, and these are of %s and %s", total.Currency, price.Currency)
		case err != nil:
			return total, fault.Invalid("items", "cost too much together: %v", err)
		}
	}
	return total, nil
}

// add takes the order into the database, with its history and announcement. It
// reports false if the request has made one already.
func (s *Orders) add(ctx context.Context, o Order, r Request) (added bool, err error) {
	err = s.store.of(o.ID).inTx(ctx, func(tx *store) error {
		if err := tx.add(ctx, o, r); err != nil {
			return err
		}
		return s.publish(ctx, tx, o)
	})
	if isDuplicate(err) {
		return false, nil
	}
	return err == nil, err
}

// pollEvery is how often a caller looks for the outcome by itself. It is woken
// as soon as there is one, unless that is another replica's and the broker is
// away.
const pollEvery = time.Second

// await returns the order as soon as done says so, or as it is when the
// caller's time is nearly up. The caller has joined the hub before o was read.
func (s *Orders) await(ctx context.Context, o Order, woken <-chan Order, done func(Order) bool) Order {
	ctx, cancel := nearly(ctx)
	defer cancel()
	for !done(o) {
		select {
		case told := <-woken:
			if told.ID != "" {
				if told.Version >= o.Version { // a saga may tell late of what was before
					o = told
				}
				continue
			}
		case <-time.After(jitter(pollEvery)):
		case <-ctx.Done():
			return o
		}
		o = s.reload(ctx, o)
	}
	return o
}

// reload returns the order as it is now or, if that can't be told, as it was.
func (s *Orders) reload(ctx context.Context, o Order) Order {
	fresh, err := s.store.order(ctx, o.ID)
	if err != nil {
		return o
	}
	return fresh
}

// nearly returns a ctx that ends a little before its parent: with the time that
// the reply still needs.
func nearly(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-min(time.Until(end)/10, 250*time.Millisecond)))
}
