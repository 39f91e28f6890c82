package shop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/meshmart/meshmart/tests/audit"
)

// story is what a customer does with one order. The shop may die at any moment of
// it: then the customer does the same again, until there is an answer.
type story struct {
	name string
	tell func(*shopper) error
}

// stories are all ways of an order through the saga.
func stories() []story {
	return []story{
		{"completed", func(s *shopper) error { return s.buys("tok_visa", "COMPLETED") }},
		{"declined", func(s *shopper) error { return s.buys("tok_chargeDeclined", "REJECTED") }},
		{"sold out", func(s *shopper) error {
			s.product = s.rare
			return s.buys("tok_visa", "REJECTED")
		}},
		{"capture declined", func(s *shopper) error { return s.buys("tok_chargeCustomerFail", "CANCELLED") }},
		{"cancelled while pending", func(s *shopper) error { return s.cancels("AUTHORIZE") }},
		{"cancelled when confirmed", func(s *shopper) error { return s.cancels("CONFIRMED") }},
		{"cancelled after completion", func(s *shopper) error { return s.cancels("COMPLETED") }},
	}
}

// shopper is a customer with one order to place.
type shopper struct {
	ctx     context.Context
	market  *market // for its address
	token   string
	product string
	rare    string // a product that is sold out
	request string // the request_id of the order
	books   audit.Books
	decided time.Time // when the order came to its end
}

// buys places the order and waits for its end.
func (s *shopper) buys(card, end string) error {
	if err := s.order(card); err != nil {
		return err
	}
	return s.rests(end)
}

// cancels places an order and cancels it once it has come to a state.
func (s *shopper) cancels(when string) error {
	ordered := make(chan error, 1)
	go func() { ordered <- s.order("tok_visa") }()
	id, err := s.reaches(when)
	if err != nil {
		return errors.Join(err, <-ordered)
	}
	if _, err := s.answer("/v1/orders/"+id+":cancel", object{}); err != nil {
		return errors.Join(err, <-ordered)
	}
	if err := <-ordered; err != nil {
		return err
	}
	return s.rests("CANCELLED")
}

func (s *shopper) order(card string) error {
	_, err := s.answer("/v1/orders", object{
		"request_id": s.request, "payment_token": card, "items": []object{{"product_id": s.product, "quantity": 2}},
	})
	return err
}

// answer makes a request again and again until there is an answer.
func (s *shopper) answer(path string, body object) (object, error) {
	for {
		code, out, err := s.market.try("POST", path, s.token, body)
		switch {
		case err == nil && code == http.StatusOK:
			return out, nil
		case err == nil && code != http.StatusServiceUnavailable && code != http.StatusGatewayTimeout && code != http.StatusConflict:
			return nil, fmt.Errorf("%s: %d %v", path, code, out)
		}
		select {
		case <-s.ctx.Done():
			return nil, fmt.Errorf("%s: no answer: %d %v %w", path, code, out, errors.Join(err, s.ctx.Err()))
		case <-time.After(5 * time.Millisecond): // the shop is being restarted
		}
	}
}

// reaches waits until the order is in a state, or beyond it; or PENDING and
// AUTHORIZE is its step. It asks the database, for a request would lead the shop
// to points that are not of the story.
func (s *shopper) reaches(state string) (id string, err error) {
	ranks := map[string]int{"PENDING": 1, "AUTHORIZE": 2, "CONFIRMED": 3, "COMPLETED": 4}
	for {
		id, now, step := s.state()
		if now == "PENDING" && step == state {
			now = step
		}
		if ranks[now] >= ranks[state] || now != "" && ranks[now] == 0 {
			return id, nil
		}
		if !s.waits(time.Millisecond) {
			return "", fmt.Errorf("order %s is %q and not %s", id, now, state)
		}
	}
}

// rests waits until the order has come to its end, and then until the shop has
// nothing more to do.
func (s *shopper) rests(end string) error {
	id, now, _ := s.state()
	for ; now != end; id, now, _ = s.state() {
		if !s.waits(2 * time.Millisecond) {
			return fmt.Errorf("order %s is %q and not %s", id, now, end)
		}
	}
	s.decided = time.Now()
	for {
		what, err := s.books.Pending(s.ctx)
		if err == nil && what == "" {
			return nil
		}
		if !s.waits(2 * time.Millisecond) {
			return fmt.Errorf("the shop does not come to rest: %s %v", what, err)
		}
	}
}

// state returns the order as it is in the database; nothing if it is not there or
// can't be read just now.
func (s *shopper) state() (id, state, step string) {
	row := s.books.Order.QueryRowContext(s.ctx, `SELECT id, state, step FROM orders WHERE request_id = $1`, s.request)
	_ = row.Scan(&id, &state, &step)
	return id, state, step
}

// waits reports false when there is no time left.
func (s *shopper) waits(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
