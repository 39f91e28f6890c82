package shopctl

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// progress shows how far an import has come.
type progress struct {
	w        io.Writer
	terminal bool
	total    int64 // bytes; 0 if not known
	now      func() time.Time
	start    time.Time
	bytes    atomic.Int64 // read from the file; the network holds the reading back
	lines    atomic.Int64 // sent
	bad      atomic.Int64 // not sent
}

// Write counts what is read of the file, through an io.TeeReader.
func (p *progress) Write(b []byte) (int, error) {
	p.bytes.Add(int64(len(b)))
	return len(b), nil
}

// run shows the progress until done is closed: on a terminal as a bar, else as
// a line every few seconds, for the logs of those who import by machine.
func (p *progress) run(done <-chan struct{}) {
	every := 5 * time.Second
	if p.terminal {
		every = 100 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show()
		case <-done:
			if p.terminal {
				p.show()
				fmt.Fprintln(p.w)
			}
			return
		}
	}
}

func (p *progress) show() {
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s\x1b[K", p.text(p.now().Sub(p.start)))
		return
	}
	fmt.Fprintf(p.w, "shopctl: %s\n", p.text(p.now().Sub(p.start)))
}

func (p *progress) text(elapsed time.Duration) string {
	done, lines := p.bytes.Load(), p.lines.Load()
	var b strings.Builder
	if p.total > 0 {
		part := min(1, float64(done)/float64(p.total))
		if p.terminal {
			const width = 24
			full := int(part * width)
			fmt.Fprintf(&b, "[%s%s] ", strings.Repeat("=", full), strings.Repeat(" ", width-full))
		}
		fmt.Fprintf(&b, "%3.0f%%  %s of %s", part*100, size(done), size(p.total))
	} else {
		b.WriteString(size(done))
	}
	fmt.Fprintf(&b, "  %s lines", count(lines))
	if s := elapsed.Seconds(); s > 0 {
		fmt.Fprintf(&b, "  %s/s", count(int64(float64(lines)/s)))
	}
	if bad := p.bad.Load(); bad > 0 {
		fmt.Fprintf(&b, "  %s bad", count(bad))
	}
	return b.String()
}
