package shop

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tally counts the answers to the requests of one operation.
type tally struct{ tried, done, through, limited int }

// FuzzREST throws requests at a whole shop: the fuzzer chooses the operation of
// the API's description and how the request departs from it. Whatever comes, the
// shop answers as documented, blames the request and not itself, gives nobody
// what is another's, and its stock adds up.
func FuzzREST(f *testing.F) {
	r := newRig(f, nil)
	for i := range r.doc.ops {
		f.Add(uint8(i), []byte{0}, "")
		f.Add(uint8(i), []byte(strings.Repeat("\x01\x02\x05\x0f", 20)), "")
	}
	n := 0
	f.Fuzz(func(t *testing.T, op uint8, choices []byte, raw string) {
		s := r.shoot(r.doc.ops[int(op)%len(r.doc.ops)], choices, raw)
		a, err := r.try(s, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if a != nil {
			if err := r.learn(s, a.status); err != nil {
				t.Fatalf("after %s: %v", s, err)
			}
		}
		if n++; n%16 == 0 {
			if err := r.audit(); err != nil {
				t.Fatalf("after %s: %v", s, err)
			}
		}
	})
}

// try sends a shot and says what is wrong with the answer; a is nil if there was
// nothing to send or to judge.
func (r *rig) try(s *shot, patience time.Duration) (*answer, error) {
	a, err := r.fire(s, patience)
	if err != nil || a == nil {
		return nil, err
	}
	if err := r.judge(s, a); err != nil {
		return a, err
	}
	r.remember(s, a)
	return a, nil
}

// TestRandomRequestsAreAnswered throws requests of a fixed seed at every
// operation, from several clients at once, and shows that enough of them get
// past what checks their form.
func TestRandomRequestsAreAnswered(t *testing.T) {
	const seed, clients = 8, 6
	eachEngine(t, func(t *testing.T, databases map[string]string) {
		c := &campaign{rig: newRig(t, databases), tallies: map[*operation]*tally{}}
		each := 15 * len(c.doc.ops)
		if databases != nil {
			each = 10 * len(c.doc.ops) // what the engines have in common was tried on SQLite
		}
		for _, op := range c.doc.ops {
			c.tallies[op] = &tally{}
		}
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { c.play(t, rand.New(rand.NewPCG(seed, uint64(i))), each) })
		}
		wg.Wait()
		if err := c.audit(); err != nil {
			t.Error(err)
		}
		c.wantCovered(t)
	})
}

// campaign is a rig and what came of the requests.
type campaign struct {
	*rig
	turn    sync.Mutex // of tallies, and of learning
	tallies map[*operation]*tally
}

func (c *campaign) play(t *testing.T, random *rand.Rand, n int) {
	for i := range n {
		op := c.doc.ops[(i+random.IntN(2))%len(c.doc.ops)]
		choices := make([]byte, 400)
		for j := range choices {
			choices[j] = byte(random.Uint32())
		}
		s := c.shoot(op, choices, "")
		a, err := c.try(s, 700*time.Millisecond)
		if err != nil {
			t.Errorf("client's request %d: %v", i, err)
		}
		if a != nil {
			c.count(t, s, a)
		}
		if i%50 == 0 {
			if err := c.audit(); err != nil {
				t.Errorf("after %s: %v", s, err)
			}
		}
	}
}

func (c *campaign) count(t *testing.T, s *shot, a *answer) {
	c.turn.Lock()
	defer c.turn.Unlock()
	counted := c.tallies[s.op]
	counted.tried++
	switch {
	case a.status == 429:
		counted.limited++
	case a.through():
		counted.through++
	}
	if a.open || a.status == 200 {
		counted.done++
	}
	if err := c.learn(s, a.status); err != nil {
		t.Errorf("after %s: %v", s, err)
	}
}

// wantCovered fails the test if an operation was not really tried.
func (c *campaign) wantCovered(t *testing.T) {
	var all tally
	var lines []string
	for op, n := range c.tallies {
		lines = append(lines, fmt.Sprintf("%-35s %4d tried, %4d past validation, %4d done, %4d limited", op, n.tried, n.through, n.done, n.limited))
		all.tried, all.through, all.limited = all.tried+n.tried, all.through+n.through, all.limited+n.limited
		if n.tried < 30 || n.through < 5 || n.done == 0 {
			t.Errorf("%s: %+v", op, *n)
		}
	}
	slices.Sort(lines)
	t.Logf("%s", strings.Join(lines, "\n"))
	if all.limited*10 > all.tried {
		t.Errorf("%d of %d requests were one too many", all.limited, all.tried)
	}
	t.Logf("figure: %d random requests to the %d operations of the REST API on %s: %d got past validation",
		all.tried, len(c.tallies), t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], all.through)
}
