package effect

import (
	"context"
	"sync"
	"testing"
)

func TestAnEffectIsNotedForTheCallAndThoseItLeavesBehind(t *testing.T) {
	call, other := Track(t.Context()), Track(t.Context())
	Note(t.Context()) // of no call: forgotten
	if Noted(call) || Noted(t.Context()) {
		t.Fatal("noted before it was")
	}
	left, cancel := context.WithCancel(context.WithoutCancel(call))
	cancel()
	Note(left)
	if !Noted(call) || Noted(other) {
		t.Errorf("got %v for the call and %v for another", Noted(call), Noted(other))
	}
}

func TestAnEffectUnderAnotherTrackIsNotTheCalls(t *testing.T) {
	call := Track(t.Context())
	inner := Track(call)
	Note(inner)
	if Noted(call) || !Noted(inner) {
		t.Errorf("got %v for the call and %v for what it tracks apart", Noted(call), Noted(inner))
	}
}

func TestEffectsAreNotedAtTheSameTime(t *testing.T) {
	call := Track(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { Note(call); Noted(call) })
	}
	wg.Wait()
	if !Noted(call) {
		t.Error("not noted")
	}
}
