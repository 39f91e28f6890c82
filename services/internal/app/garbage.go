package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A collection looks at all that is alive, and Go has the next one when the heap has
// doubled. Of a service a few MB are alive: one that is busy collects 50 times a
// second, for a quarter of its processor time and more. So a process that is busy may
// hold slack in addition to what is alive, and one that rests may not.
const (
	slack = 32 << 20
	// Busy is who collects more than so often in a row, each time so soon after the
	// last. A start takes less.
	row, soon = 4, time.Second
	// least is the heap that Go takes for granted, and scales as all others.
	least = 4 << 20
)

// collections follows those of the process.
type collections struct {
	last time.Time
	row  int // that have come soon
}

// relaxCollections has the heap of a busy process grow further. Whoever sets GOGC
// has decided; GOMEMLIMIT holds in any case.
func relaxCollections() {
	if os.Getenv("GOGC") == "" {
		c := &collections{last: time.Now()}
		c.await()
	}
}

// await has the next collection told: it finds that nobody holds the sentinel.
func (c *collections) await() {
	sentinel := new(collections)
	runtime.AddCleanup(sentinel, (*collections).ended, c)
}

func (c *collections) ended() {
	now := time.Now()
	debug.SetGCPercent(c.percent(now, alive()))
	c.await()
}

// percent is GOGC for a heap of which so much is alive, after a collection.
func (c *collections) percent(now time.Time, alive uint64) int {
	c.row++
	if now.Sub(c.last) > soon {
		c.row = 0
	}
	c.last = now
	if c.row < row {
		return 100
	}
	return max(100, int(100*slack/max(alive, least)))
}

// alive is what a collection has to look at, in bytes.
func alive() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		sum += s.Value.Uint64()
	}
	return sum
}
