// Package storybook tells the main stories of the shop over REST, and holds the
// traces that they leave to the trees that are written down for them in trees.
// The same trees hold wherever the shop runs: the services may share a process or
// not, and keep their data where they like.
package storybook

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/meshmart/meshmart/tests/tracetree"
)

// Latency is that of the payment processor, which the shop must have set: half
// of it is the time that a story has to cancel an order before it is paid, and
// the stock of an order is sold before its payment is captured.
const Latency = time.Second

const (
	// hang is longer than any trace takes to be complete.
	hang = time.Minute
	// still is for how long nothing comes that is not ever coming.
	still = 15 * time.Second
	// late is how long we wait in the end for what should not come.
	late  = 2 * time.Second
	again = 50 * time.Millisecond
)

//go:embed trees/*.tree
var trees embed.FS

// Shop is a running shop that does nothing for anybody else. Each service has one
// replica, which has checked no token yet.
type Shop struct {
	URL                       string // of the gateway
	AdminEmail, AdminPassword string
	// Payments is the database of the payment service, to be read.
	Payments *sql.DB
	// Spans returns the spans of all traces that have one from since on.
	Spans func(ctx context.Context, since time.Time) ([]tracetree.Span, error)
}

// Told is what has been seen of the stories.
type Told struct {
	Stories int
	Traces  int
	Edges   int // spans below their parents, as the trees say
	Repeats int // events that were published or delivered once more
}

// Tell tells all stories, each as a subtest. A trace that is not as it should be
// fails the test, and so does one that nobody asked for.
func Tell(t *testing.T, shop Shop) Told {
	t.Helper()
	b := &book{shop: shop, began: time.Now(), told: map[string]page{}}
	c := &customer{shop: shop}
	for _, s := range stories() {
		if !t.Run(s.name, func(t *testing.T) { b.tell(t, c, s) }) {
			t.Fatal("the stories after it build on this one")
		}
	}
	b.close(t)
	sum := Told{Stories: len(stories()), Traces: len(b.told)}
	for _, p := range b.told {
		sum.Edges += p.result.Edges
		sum.Repeats += p.result.Repeats
	}
	return sum
}

// book is what has been told so far.
type book struct {
	shop  Shop
	began time.Time
	told  map[string]page // by trace
}

// page is one trace of a story.
type page struct {
	story  string
	tree   tracetree.Tree
	result tracetree.Result
}

// tell lets the customer do what the story says, and waits for its traces.
func (b *book) tell(t *testing.T, c *customer, s story) {
	want := wanted(t, s.name)
	began := time.Now()
	c.begin(t)
	s.tell(c)
	if len(c.traces) != len(want) {
		t.Fatalf("%d requests were made, and there are %d trees", len(c.traces), len(want))
	}
	pages := map[string]page{}
	for i, id := range c.traces {
		pages[id] = page{story: s.name, tree: want[i]}
	}
	for _, p := range b.await(t, began, pages) {
		t.Error(p)
	}
	maps.Copy(b.told, pages)
}

func wanted(t *testing.T, name string) []tracetree.Tree {
	t.Helper()
	text, err := trees.ReadFile("trees/" + name + ".tree")
	if err != nil {
		t.Fatal(err)
	}
	all, err := tracetree.Parse(string(text))
	if err != nil {
		t.Fatalf("%s.tree: %v", name, err)
	}
	return all
}

// await reads the traces until they are as they should be, or don't change any
// more, and returns what is wrong with them.
func (b *book) await(t *testing.T, since time.Time, pages map[string]page) []string {
	t.Helper()
	return b.follow(t, since, pages, func(problems []string, quiet time.Duration) bool {
		return len(problems) == 0 || quiet > still
	})
}

// close waits for what comes late, and checks everything that was traced since
// the beginning once more.
func (b *book) close(t *testing.T) {
	t.Helper()
	for _, p := range b.follow(t, b.began, b.told, func(_ []string, quiet time.Duration) bool { return quiet > late }) {
		t.Errorf("in the end: %s", p)
	}
}

// follow compares the traces again and again until it is enough, for which it
// tells how long nothing new has come; or until it takes too long.
func (b *book) follow(t *testing.T, since time.Time, pages map[string]page, enough func(problems []string, quiet time.Duration) bool) []string {
	t.Helper()
	seen, changed := -1, time.Now()
	for deadline := time.Now().Add(hang); ; time.Sleep(again) {
		spans, err := b.shop.Spans(t.Context(), since)
		if err != nil {
			t.Fatalf("read the traces: %v", err)
		}
		if len(spans) != seen {
			seen, changed = len(spans), time.Now()
		}
		problems := compare(since, spans, pages)
		if enough(problems, time.Since(changed)) || time.Now().After(deadline) {
			return problems
		}
	}
}

// compare holds all traces that began since then to the pages, and tells what is
// wrong. Those that began before are of an earlier story, or of the start.
func compare(since time.Time, spans []tracetree.Span, pages map[string]page) []string {
	var problems []string
	traces := tracetree.Traces(spans)
	for _, id := range slices.Sorted(maps.Keys(pages)) {
		p := pages[id]
		p.result = tracetree.Match(p.tree, traces[id])
		pages[id] = p
		if !p.result.OK() {
			problems = append(problems, fmt.Sprintf("%s, trace %s:\n%s", p.story, id, p.result.String()))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(traces)) {
		if _, known := pages[id]; !known && !traces[id][0].Start.Before(since) {
			problems = append(problems, fmt.Sprintf("work has escaped to a trace of its own, %s:\n%s", id, tracetree.Show(traces[id])))
		}
	}
	return problems
}
