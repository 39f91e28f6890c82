// Command report reads the output of `go test -json` and shows people what they
// need of it: a line per package as it ends, the output of what failed, and at
// the end how much passed and all that was left out, with the reason.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: go test -json ./... | go run ./tests/report\n\nIt exits with 1 if a test or a package failed.")
	}
	flag.Parse()
	r := report{output: map[string][]string{}}
	if err := r.read(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if !r.summary(os.Stdout) {
		os.Exit(1)
	}
}

// event is one line of test2json (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build's output
	Test       string
	Elapsed    float64
	Output     string
}

// module is cut off the names of packages.
const module = "github.com/meshmart/meshmart/"

type report struct {
	passed, failed int
	skipped        []string
	figures        []string            // lines that tests mark with "figure:"
	output         map[string][]string // of tests under way
}

func (r *report) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // what the go command says by itself
			continue
		}
		r.take(e, out)
	}
	return lines.Err()
}

func (r *report) take(e event, out io.Writer) {
	pkg := strings.TrimPrefix(e.Package, module)
	key := pkg + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
		if _, figure, ok := strings.Cut(e.Output, "figure: "); ok {
			r.figures = append(r.figures, strings.TrimSpace(figure))
		}
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			r.endPackage(e, pkg, key, out)
		} else {
			r.endTest(e, key, out)
		}
		delete(r.output, key)
	}
}

func (r *report) endTest(e event, key string, out io.Writer) {
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped = append(r.skipped, key+": "+reason(r.output[key]))
	case "fail":
		r.failed++
		fmt.Fprintf(out, "FAIL  %s\n", key)
		for _, l := range r.output[key] {
			fmt.Fprint(out, "      ", l)
		}
	}
}

func (r *report) endPackage(e event, pkg, key string, out io.Writer) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(out, "ok    %-45s %6.1f s\n", pkg, e.Elapsed)
	case "fail":
		if r.failed == 0 {
			r.failed++ // it did not build, or died outside of a test
		}
		fmt.Fprintf(out, "FAIL  %-45s %6.1f s\n", pkg, e.Elapsed)
		for _, l := range r.output[key] {
			fmt.Fprint(out, "      ", l)
		}
	}
}

// reason is what a skipped test said last before its result.
func reason(output []string) string {
	for _, l := range slices.Backward(output) {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "---") || strings.HasPrefix(l, "===") {
			continue
		}
		if _, why, ok := strings.Cut(l, ".go:"); ok {
			_, why, _ = strings.Cut(why, ": ")
			return why
		}
		return l
	}
	return "no reason given"
}

// summary prints the end of the report and reports whether all went well.
func (r *report) summary(out io.Writer) bool {
	if len(r.figures) > 0 {
		fmt.Fprintln(out, "\nFigures:")
		for _, f := range r.figures {
			fmt.Fprintln(out, "  ", f)
		}
	}
	if len(r.skipped) > 0 {
		fmt.Fprintln(out, "\nLeft out:")
		for _, s := range r.skipped {
			fmt.Fprintln(out, "  ", s)
		}
	} else {
		fmt.Fprintln(out, "\nNothing was left out.")
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
	return r.failed == 0 && r.passed > 0
}
