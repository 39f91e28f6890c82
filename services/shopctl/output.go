package shopctl

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// terminal returns the terminal behind a stream, if it is one.
func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(f.Fd())
	return fd, term.IsTerminal(fd)
}

// printer writes what a command was asked for: for people, or exactly as the
// server wrote it.
type printer struct {
	io.Writer
	json  bool
	color bool
	width int // of the terminal; 0 if it is none
}

func newPrinter(p Process, json bool) *printer {
	fd, ok := terminal(p.Stdout)
	out := &printer{Writer: p.Stdout, json: json}
	if ok {
		out.color = p.Env("NO_COLOR") == "" && p.Env("TERM") != "dumb"
		out.width, _, _ = term.GetSize(fd) // 0: not known
	}
	return out
}

// reply writes one answer of the server, each on a line of its own in JSON.
func (p *printer) reply(raw []byte, people func() *table) {
	if p.json {
		fmt.Fprintf(p, "%s\n", bytes.TrimSpace(raw))
		return
	}
	p.table(people())
}

func (p *printer) table(t *table) { t.write(p, p.width, p.color) }

// say writes a line for people alone.
func (p *printer) say(format string, args ...any) {
	if !p.json {
		fmt.Fprintln(p, clean(fmt.Sprintf(format, args...)))
	}
}

// details is a table of names and values.
func details() *table { return &table{head: []string{"", ""}, flexible: 1} }

// field adds a line unless the value is empty.
func (t *table) field(name string, value any) {
	if v := fmt.Sprint(value); v != "" {
		t.add(name, v)
	}
}

// clock is how instants are shown: in the local zone, to the second.
func clock(ts *timestamppb.Timestamp) string {
	if ts == nil {
		return ""
	}
	return ts.AsTime().Local().Format("2006-01-02 15:04:05")
}

// count writes a number with separators: 1,234,567.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes: 12.3 MB.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[i])
}

// short rounds a duration to what a person reads: 1.2s, 340ms.
func short(d time.Duration) time.Duration {
	if d >= time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
