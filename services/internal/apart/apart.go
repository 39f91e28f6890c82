// Package apart keeps small what waits for long. The stack of a goroutine grows to
// what it has once needed, and does not shrink below what the calls that it waits
// in need four times over: a stream that has read a database, and waits now, would
// keep 16 KB for it.
package apart

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Run calls fn on another stack and returns when it has. That stack is free again
// then. A panic of fn is one of Run, with the stack of fn in its text.
func Run(fn func()) {
	var wg sync.WaitGroup
	var panicked any
	wg.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
		}()
		fn()
	})
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
}
