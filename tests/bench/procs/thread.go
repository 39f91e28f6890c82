package procs

import (
	"os/exec"
	"runtime"
	"sync"
)

// starter is the one thread that starts programs, for as long as this process
// lives: Linux sends the signal of a parent's death when the thread ends that
// has started the child.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for fn := range work {
			fn()
		}
	}()
	return work
})

func startOn(cmd *exec.Cmd) error {
	done := make(chan error)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}
