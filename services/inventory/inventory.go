// Package inventory knows how much of each product there is, and sets it aside
// for orders.
//
// What came in is available, reserved for an order under way, or sold with a
// completed one; the three always add up to what was stocked. Every change for
// an order has the order's id as its key: it may be repeated, and what comes
// after a release comes too late, in whichever order the calls and the events
// arrive.
package inventory

import (
	"slices"
	"strings"
	"time"

	"github.com/meshmart/meshmart/services/internal/batch"
	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	// maxAvailable bounds what can be available by a count, as the contract says.
	maxAvailable = 1_000_000_000
	// maxStocked bounds all that there is of a product: an int32 of the contract.
	maxStocked = 1<<31 - 1
)

// The reasons of refusals that callers act upon.
const (
	reasonOutOfStock    = "OUT_OF_STOCK"
	reasonUnavailable   = "PRODUCT_UNAVAILABLE"
	reasonOrderReleased = "ORDER_RELEASED"
	reasonOrderReused   = "ORDER_ID_REUSED"
	reasonNotEnough     = "NOT_ENOUGH"
	reasonStaleETag     = "STALE_ETAG"
)

// Stock is how much there is of one product.
type Stock struct {
	ProductID    string
	Available    int64
	Reserved     int64
	Sold         int64
	Stocked      int64 // always the sum of the three
	Discontinued bool  // counted, but not sold any more
	Version      int64 // rises with every change, from 1
	Created      time.Time
	Updated      time.Time
}

// Item is a quantity of one product.
type Item struct {
	ProductID string
	Quantity  int64 // positive
}

// state is what became of an order's reservation.
type state string

const (
	stateReserved  state = "RESERVED"
	stateCommitted state = "COMMITTED" // sold
	stateReleased  state = "RELEASED"  // never sold: given back, or never reserved
	stateReturned  state = "RETURNED"  // given back after it was sold
)

// over reports whether nothing can be reserved or sold for the order any more.
func (s state) over() bool { return s == stateReleased || s == stateReturned }

// Inventory is the service's rules.
type Inventory struct {
	store  *store
	events *announcer
	clock  func() time.Time
	writes batch.Writer[*change] // what is done for orders
}

// canonical returns the items in the order of their products, in which all
// transactions lock them, so that no two wait for each other.
func canonical(items []Item) ([]Item, error) {
	items = slices.SortedFunc(slices.Values(items), func(a, b Item) int { return strings.Compare(a.ProductID, b.ProductID) })
	for i := 1; i < len(items); i++ {
		if items[i].ProductID == items[i-1].ProductID {
			return nil, fault.Invalid("items", "product %s comes twice", items[i].ProductID)
		}
	}
	return items, nil
}
