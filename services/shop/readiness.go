package shop

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// readiness is whether the shop as a whole is ready: all its services are, and
// what they sell has arrived.
type readiness struct {
	mu      sync.Mutex
	reasons map[string]error // of each service, why it is not ready
}

var errStarting = errors.New("starting")

func newReadiness() *readiness { return &readiness{reasons: map[string]error{"stock": errStarting}} }

// set notes why a service is not ready; nil says that it is.
func (r *readiness) set(name string, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons[name] = reason
}

// check returns nil when everything is ready, and else what is not.
func (r *readiness) check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var waiting []string
	for name, reason := range r.reasons {
		if reason != nil {
			waiting = append(waiting, fmt.Sprintf("%s (%v)", name, reason))
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	slices.Sort(waiting)
	return fmt.Errorf("%v", waiting)
}
