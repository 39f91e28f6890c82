package inventory

import (
	"maps"
	"slices"
)

// ledger is what changes are decided on: the orders and the stock that they are about,
// which nobody else changes meanwhile.
type ledger struct {
	orders map[string]*booking
	stocks map[string]*shelf // without the products that are not known

	reserved []*change
	news     []news
}

// booking is what there is of an order.
type booking struct {
	state  state // "" if nothing was heard of it
	stored state // that the database has for it
	items  []Item
}

// shelf is the stock of a product.
type shelf struct {
	Stock
	was Stock
}

// news is what is to be announced of an order.
type news struct {
	*change
	items []Item
}

// book decides on a change.
func (l *ledger) book(c *change) {
	switch b := l.orders[c.orderID]; c.verb {
	case reserving:
		l.reserve(c, b)
	case committing:
		l.commit(c, b)
	case releasing:
		l.release(c, b)
	}
}

func (l *ledger) reserve(c *change, b *booking) {
	if b.state != "" {
		c.err = again(c.orderID, b.state, b.items, c.items)
		c.replayed = c.err == nil
		return
	}
	for _, it := range c.items {
		s := l.stocks[it.ProductID]
		if s == nil {
			s = &shelf{}
		}
		if c.err = refusal(s.Stock, s.ProductID != "", it); c.err != nil {
			return
		}
	}
	b.state, b.items = stateReserved, c.items
	l.reserved = append(l.reserved, c)
	l.move(c, b, available, reserved)
}

func (l *ledger) commit(c *change, b *booking) {
	switch b.state {
	case stateReserved:
		b.state = stateCommitted
		l.move(c, b, reserved, sold)
	case stateCommitted:
		c.replayed = true
	default:
		c.err = released(c.orderID)
	}
}

func (l *ledger) release(c *change, b *booking) {
	switch b.state {
	case "":
		b.state = stateReleased
	case stateReserved:
		b.state = stateReleased
		l.move(c, b, reserved, available)
	case stateCommitted:
		b.state = stateReturned
		l.move(c, b, sold, available)
	default:
		c.replayed = true
	}
}

// move moves all items of the order, and announces it.
func (l *ledger) move(c *change, b *booking, from, to place) {
	for _, it := range b.items {
		s := l.stocks[it.ProductID]
		*s.at(from) -= it.Quantity
		*s.at(to) += it.Quantity
		s.Version++
	}
	l.news = append(l.news, news{c, b.items})
}

// at returns the count at a place.
func (s *shelf) at(p place) *int64 {
	switch p {
	case available:
		return &s.Available
	case reserved:
		return &s.Reserved
	}
	return &s.Sold
}

// where returns the ids of some orders, sorted.
func (l *ledger) where(some func(*booking) bool) []string {
	var ids []string
	for id, b := range l.orders {
		if some(b) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// products returns those whose stock the changes may move, sorted.
func (l *ledger) products(all []*change) []string {
	ids := map[string]bool{}
	for _, c := range all {
		items := l.orders[c.orderID].items
		switch {
		case c.verb != reserving:
		case l.orders[c.orderID].state == "":
			items = c.items
		default:
			items = nil // it is answered as it was before
		}
		for _, it := range items {
			ids[it.ProductID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// moved returns the stock that has changed, in the order of the products.
func (l *ledger) moved() []*shelf {
	var all []*shelf
	for _, id := range slices.Sorted(maps.Keys(l.stocks)) {
		if s := l.stocks[id]; s.Version != s.was.Version {
			all = append(all, s)
		}
	}
	return all
}
