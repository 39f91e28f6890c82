package shop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrashAtEveryPoint kills the shop with SIGKILL at every point that the ways
// of an order lead it to: before and after each commit and write of the saga, of
// the outbox and of the inbox, each send, acknowledgement, call and reply. None
// is written down here: a shop that is left alone notes where the stories lead
// it. After each death the next process has to bring the order to the end that
// its story has, and at last the books of all services and their events have to
// balance. Where only a recovery comes to, a second process dies.
//
// Each point dies once, in one of its stories. With CRASH_POINTS=all in the
// environment it does in each story, every time that the story comes to it; that
// takes some minutes.
func TestCrashAtEveryPoint(t *testing.T) {
	paths := explore(t)
	var engines sync.WaitGroup // most of the time PostgreSQL waits for leases to end
	engines.Go(func() {
		t.Run("sqlite", func(t *testing.T) { reap(t, paths, 3, func(*testing.T) map[string]string { return nil }) })
	})
	engines.Go(func() {
		t.Run("postgres", func(t *testing.T) { reap(t, paths, 10, onPostgres) })
	})
	engines.Wait()
}

// path is where a story leads the shop.
type path struct {
	story  story
	points []string // in their order, each as often as it is met
}

// explore tells each story to a process that has just started.
func explore(t *testing.T) []path {
	c := newChain(t, nil, nil)
	var paths []path
	for _, s := range stories() {
		c.restart()
		before := len(c.points())
		if err := s.tell(c.shopper(time.Minute)); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		c.quiet(300 * time.Millisecond)
		paths = append(paths, path{s, c.points()[before:]})
	}
	c.end()
	t.Logf("the stories come to %d points, %d times", len(once(paths)), len(everywhere(paths)))
	return paths
}

// death is the point of a story at which the shop has to die.
type death struct {
	story  story
	point  string
	nth    int     // how often the story comes to it, until the last time
	again  string  // where the next process has to die, from its start; "" for nowhere
	others []story // that come to the point as well
}

func (d death) String() string {
	if d.again != "" {
		return fmt.Sprintf("%s: %s, then %s", d.story.name, d.point, d.again)
	}
	return fmt.Sprintf("%s: %s (%d)", d.story.name, d.point, d.nth)
}

// everywhere returns a death for each time that a story comes to a point.
func everywhere(paths []path) (all []death) {
	for _, p := range paths {
		times := map[string]int{}
		for _, point := range p.points {
			times[point]++
			all = append(all, death{story: p.story, point: point, nth: times[point]})
		}
	}
	return all
}

// once returns one death for each point, spread over the stories that have it.
func once(paths []path) (chosen []death) {
	places := map[string][]death{}
	var points []string
	for _, d := range everywhere(paths) {
		if places[d.point] == nil {
			points = append(points, d.point)
		}
		if d.nth == 1 {
			places[d.point] = append(places[d.point], d)
		}
	}
	for i, point := range points {
		all := places[point]
		d := all[i%len(all)]
		for j := range all[1:] {
			d.others = append(d.others, all[(i+1+j)%len(all)].story)
		}
		chosen = append(chosen, d)
	}
	return chosen
}

// reap has shops side by side, each with databases of its own, die all deaths.
func reap(t *testing.T, paths []path, shops int, databases func(*testing.T) map[string]string) {
	r := &reaper{stories: len(paths), known: map[string]bool{}, recovering: map[string]death{}, killed: map[string]bool{}}
	for _, d := range everywhere(paths) {
		r.known[d.point] = true
	}
	deaths := once(paths)
	if os.Getenv("CRASH_POINTS") == "all" {
		deaths = everywhere(paths)
	}
	r.share(t, "in a story", shops, databases, deaths)
	r.share(t, "in a recovery", shops, databases, r.second())
	r.report(t)
}

// reaper keeps the record of all shops.
type reaper struct {
	stories int

	mu         sync.Mutex
	known      map[string]bool  // points of the stories
	recovering map[string]death // points that recoveries alone come to, and after what
	killed     map[string]bool  // points
	missed     []death          // did not come to their point any more
	took       []time.Duration  // from the last death to the end of the order
	kills      int
	audits     int
}

// share returns when all the deaths have been died.
func (r *reaper) share(t *testing.T, when string, shops int, databases func(*testing.T) map[string]string, deaths []death) {
	t.Run(when, func(t *testing.T) {
		var wg sync.WaitGroup // t.Parallel would run two of them on two cores, and they mostly wait
		for i := range min(shops, len(deaths)) {
			wg.Go(func() {
				t.Run(fmt.Sprint("shop ", i+1), func(t *testing.T) {
					c := newChain(t, r, databases(t))
					for j := i; j < len(deaths); j += shops {
						c.die(deaths[j])
					}
					c.audit()
				})
			})
		}
		wg.Wait()
	})
}

// met takes note of the points that a recovery has come to.
func (r *reaper) met(points []string, after death) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, point := range points {
		if _, found := r.recovering[point]; !found && !r.known[point] && after.again == "" {
			r.recovering[point] = death{story: after.story, point: after.point, nth: after.nth, again: point}
		}
	}
}

// second returns the deaths of those who recover.
func (r *reaper) second() (deaths []death) {
	for _, d := range r.recovering {
		deaths = append(deaths, d)
	}
	slices.SortFunc(deaths, func(a, b death) int { return strings.Compare(a.again, b.again) })
	return deaths
}

func (r *reaper) report(t *testing.T) {
	if t.Failed() || len(r.took) == 0 {
		return
	}
	for _, d := range r.missed {
		t.Logf("not met again: %v", d)
	}
	slices.Sort(r.took)
	points := len(r.known) + len(r.recovering)
	t.Logf("figure: %s: %d kills at %d of %d points of the saga, outbox and inbox, in %d stories and their recoveries; "+
		"the order is at its end p50 %d ms, max %d ms after the kill; the books balanced %d times",
		t.Name(), r.kills, len(r.killed), points, r.stories, r.took[len(r.took)/2].Milliseconds(), r.took[len(r.took)-1].Milliseconds(), r.audits)
	if len(r.missed) > points/10 {
		t.Errorf("%d of %d points were not met again", len(r.missed), points)
	}
}
