// Package stats reduces what was measured to a few numbers that can be trusted:
// quantiles of latencies, and the spread of a figure over the rounds of a run.
package stats

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A latency is kept to three digits, from a microsecond to two minutes; what is
// outside counts as the nearest.
const (
	least  = time.Microsecond
	most   = 2 * time.Minute
	digits = 3
)

// Histogram counts latencies. It may be used by many goroutines at once.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // of nanoseconds / 100
}

// unit is what a latency is counted in: finer than what is promised of it, so
// that short ones keep their digits.
const unit = 100 * time.Nanosecond

// NewHistogram returns one that has counted nothing.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(1, int64(most/unit), digits)}
}

// Record counts a latency.
func (h *Histogram) Record(d time.Duration) {
	d = min(max(d, least), most)
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(int64(d / unit)) // it is within the bounds
}

// Add counts what another histogram has counted, which nobody writes any more.
func (h *Histogram) Add(other *Histogram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.h.Merge(other.h)
}

// Count is how many latencies were counted.
func (h *Histogram) Count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.TotalCount()
}

// Quantile returns the latency that a share q of all did not exceed; 0 if there
// are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.h.ValueAtQuantile(100*q)) * unit
}
