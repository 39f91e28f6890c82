package main

// entry is what the three databases know of one order.
type entry struct {
	state, step         string // of the order; "": it is not known there
	committed, captured bool   // what the order has heard
	revision            int64  // of the order's row
	reservation         string // the state of its reservation; "": there is none
	payment             string // and that of its payment
}

// A change is what is done to an order's row. What comes of it is the saga's work,
// when the services run again: it repeats calls that the others may have carried
// out before, which changes nothing, and undoes what it can't finish.
type change int

const (
	none   change = iota
	adopt         // enter it as one to be undone
	cancel        // have it undone, and CANCELLED
	undo          // have it undone once more; its state stays
	again         // begin at its first step
	ahead         // go on at the step of the payment
)

var told = map[change]string{
	adopt: "is entered and taken back", cancel: "is taken back", undo: "gives back what it had", again: "begins anew", ahead: "goes on with its payment",
}

func (e entry) stockHeld() bool { return e.reservation == "RESERVED" || e.reservation == "COMMITTED" }

func (e entry) moneyHeld() bool {
	switch e.payment {
	case "PENDING", "AUTHORIZED", "CAPTURING", "CAPTURED":
		return true
	}
	return false
}

// moneySure reports whether the money is there, or will be without anybody asking.
func (e entry) moneySure() bool { return e.moneyHeld() && e.payment != "PENDING" }

// over reports whether something was given back that can't be had again.
func (e entry) over() bool {
	switch e.payment {
	case "VOIDING", "VOIDED", "REFUNDING", "REFUNDED":
		return true
	}
	return e.reservation == "RELEASED" || e.reservation == "RETURNED"
}

// verdict says what has to be done to the order's row.
func (e entry) verdict() change {
	switch e.state {
	case "":
		return adopt
	case "PENDING":
		return e.pending()
	case "CONFIRMED":
		// A capture that was declined is announced again: the order knows what to do.
		if !(e.stockHeld() && e.moneySure()) && e.payment != "DECLINED" {
			return cancel
		}
	case "COMPLETED":
		if !(e.stockHeld() && e.moneySure()) {
			return cancel
		}
	case "CANCELLING":
		if e.step == "UNDO_STOCK" && e.moneyHeld() {
			return undo
		}
	default: // REJECTED, CANCELLED
		if e.stockHeld() || e.moneyHeld() || e.reservation == "" { // not even the mark that there must be none
			return undo
		}
	}
	return none
}

func (e entry) pending() change {
	switch {
	case e.step == "UNDO_STOCK" && e.moneyHeld():
		return undo
	case e.step == "UNDO_STOCK" || e.step == "UNDO_PAYMENT":
		return none
	case e.over():
		return cancel
	case e.moneyHeld() && !e.stockHeld():
		return cancel
	case e.moneyHeld() && e.step == "RESERVE":
		return ahead // an order that is refused at RESERVE has no payment to undo
	case e.step == "AUTHORIZE" && !e.stockHeld():
		return again
	}
	return none
}

// announcements returns the events that somebody waits for and that may be lost.
// Who has heard of one before drops it, or finds nothing left to do.
func (e entry) announcements() (subjects []string) {
	if what := e.verdict(); what == adopt || what == cancel { // which is announced
		return nil
	}
	add := func(subject string, lost bool) {
		if lost {
			subjects = append(subjects, subject)
		}
	}
	undecided := e.state == "PENDING" || e.state == "CONFIRMED"
	add("order.confirmed", (e.state == "CONFIRMED" || e.state == "COMPLETED") && (e.reservation == "RESERVED" || e.payment == "AUTHORIZED"))
	add("stock.committed", undecided && e.reservation == "COMMITTED" && !e.committed)
	add("payment.captured", undecided && e.payment == "CAPTURED" && !e.captured)
	add("payment.declined", e.state == "CONFIRMED" && e.payment == "DECLINED")
	return subjects
}
