package order

import "sync"

// maxWaiting bounds those who wait for one change. Who finds no place is never
// woken, and lives on looking by itself.
const maxWaiting = 50_000

// hub wakes those who wait for an order to change, and tells those who follow one
// what has become of it.
type hub struct {
	nudge chan struct{} // something is stale; has room for one

	mu      sync.Mutex
	waiting map[string]map[chan Order]bool // by order; no entry is empty
	n       int
	watched map[string]*watched // by order
	stale   map[string]bool     // of those watched: orders that are to be read, and told of
}

// watched is an order that somebody follows.
type watched struct {
	watchers int
	version  int64 // that all of them have, or hear of; 0 until the first has read it
	next     *news
}

// news is what those hear who follow an order: the same for all, and the next ones
// after it.
type news struct {
	told chan struct{} // closed when the rest is set
	history
	next *news
}

func newNews() *news { return &news{told: make(chan struct{})} }

// history is an order, and all the states that it has reached.
type history struct {
	order   Order
	changes []Change
}

func newHub() *hub {
	return &hub{
		nudge:   make(chan struct{}, 1),
		waiting: map[string]map[chan Order]bool{}, watched: map[string]*watched{}, stale: map[string]bool{},
	}
}

// join returns a channel that gets something when the order has changed, once
// for any number of changes since it was last read: the order as it is by then,
// where that is known, or one without an id. The caller joins first and looks at
// the order then, so as to miss nothing, and leaves in the end.
func (h *hub) join(id string) (woken <-chan Order, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n >= maxWaiting {
		return nil, func() {}
	}
	c := make(chan Order, 1)
	if h.waiting[id] == nil {
		h.waiting[id] = map[chan Order]bool{}
	}
	h.waiting[id][c] = true
	h.n++
	return c, func() { h.leave(id, c) }
}

func (h *hub) leave(id string, c chan Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting[id], c)
	if len(h.waiting[id]) == 0 {
		delete(h.waiting, id)
	}
	h.n--
}

// wake wakes those who wait for the order, and tells them what it is now, unless
// that is not known: then it has no id, and maybe a version. It never blocks.
func (h *hub) wake(id string, now Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiting[id] {
		select {
		case <-c: // what it was told is out of date
		default:
		}
		c <- now // there is room: nobody else sends
	}
	h.change(id, now.Version)
}

// follow returns the news that are next of an order. The caller follows first and
// reads the order then, says whether it is behind, and unfollows in the end.
func (h *hub) follow(id string) *news {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watched[id]
	if w == nil {
		w = &watched{next: newNews()}
		h.watched[id] = w
	}
	w.watchers++
	return w.next
}

func (h *hub) unfollow(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watched[id]
	if w.watchers--; w.watchers == 0 {
		delete(h.watched, id)
		delete(h.stale, id)
	}
}

// behind reports whether o, which a follower has read, is not what others have who
// follow it, nor what is yet to be told: then it is to be read again. If it is the
// others who are behind, they will hear of it.
func (h *hub) behind(o Order) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watched[o.ID]
	if w.version == 0 {
		w.version = o.Version
	}
	h.change(o.ID, o.Version)
	return o.Version < w.version
}

// changed notes that an order has reached a version; 0 is one that is not known.
func (h *hub) changed(id string, version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change(id, version)
}

// change is changed with mu held.
func (h *hub) change(id string, version int64) {
	if w := h.watched[id]; w != nil && (version == 0 || version > w.version) {
		h.stale[id] = true
		select {
		case h.nudge <- struct{}{}:
		default:
		}
	}
}

// takeStale returns up to n of the orders that are to be told of, or nil.
func (h *hub) takeStale(n int) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.stale {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
		delete(h.stale, id)
	}
	return ids
}

// stir has orders told of, if they are followed.
func (h *hub) stir(ids ...string) {
	for _, id := range ids {
		h.changed(id, 0)
	}
}

// publish tells those who follow the order its history, which was read after it
// was taken for stale, unless there is nothing new in it.
func (h *hub) publish(told history) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watched[told.order.ID]
	if w == nil || told.order.Version <= w.version {
		return
	}
	w.version = told.order.Version
	n := w.next
	n.history, n.next = told, newNews()
	w.next = n.next
	close(n.told)
}

// following returns the orders that are followed.
func (h *hub) following() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]string, 0, len(h.watched))
	for id := range h.watched {
		ids = append(ids, id)
	}
	return ids
}
