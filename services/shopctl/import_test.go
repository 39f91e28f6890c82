package shopctl

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// warehouse takes imports: it counts lines and rejects those of a sku.
func warehouse(reject string, lines *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, rejections := 0, []string{}
		for s := bufio.NewScanner(r.Body); s.Scan(); {
			n++
			lines.Add(1)
			if reject != "" && strings.Contains(s.Text(), reject) {
				rejections = append(rejections, fmt.Sprintf(`{"line":"%d","sku":"%s","field":"category","reason":"is not allowed"}`, n, reject))
			}
		}
		fmt.Fprintf(w, `{"received":"%d","created":"%d","rejected":"%d","rejections":[%s]}`,
			n, n-len(rejections), len(rejections), strings.Join(rejections, ","))
	}
}

const file = `sku,name,category,price
A-1,One,kitchen,1.50
A-2,Two,kitchen,cheap

A-3,"Three
lines",kitchen,3
A-4,Four
A-5,Five,forbidden,5
A-6,Six,kitchen,6
`

func TestImportTellsEveryBadLine(t *testing.T) {
	var lines atomic.Int64
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": warehouse("A-5", &lines)})
	s.signIn(t)
	name := filepath.Join(t.TempDir(), "products.csv")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	want := ran{exitPartly, `RECEIVED  CREATED  UPDATED  UNCHANGED  REJECTED
       6        3        0          0         3

LINE  SKU  FIELD     REASON
   3  A-2  price     "cheap" is not a price such as 12.50
   7  A-4            has 2 fields and not 4 as the first line
   8  A-5  category  is not allowed
`, "shopctl: 3 of 6 lines were rejected\n"}
	if diff := cmp.Diff(s.run(t, nil, "products", "import", name), want, cmp.AllowUnexported(ran{})); diff != "" {
		t.Error(diff)
	}
	r := s.run(t, strings.NewReader(file), "products", "import", "-", "-o", "json")
	var sum struct {
		Received, Rejected string
		Rejections         []struct{ Line string }
	}
	if err := json.Unmarshal([]byte(r.out), &sum); err != nil || sum.Received != "6" || sum.Rejected != "3" || len(sum.Rejections) != 3 || sum.Rejections[2].Line != "8" {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestImportWithoutFaultsIsDone(t *testing.T) {
	var lines atomic.Int64
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": warehouse("", &lines)})
	s.signIn(t)
	text := `{"product":{"sku":"A-1"},"initial_stock":3}` + "\n"
	if r := s.run(t, strings.NewReader(text), "products", "import", "-"); r.code != exitOK || r.err != "" || lines.Load() != 1 {
		t.Errorf("%+v", r)
	}
}

func TestImportThatMayNotIsRefusedBeforeItIsSent(t *testing.T) {
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": status(http.StatusForbidden, `{"code":7,"message":"only administrators may"}`)})
	s.signIn(t)
	endless, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, file) }()
	defer w.Close()
	r := s.run(t, endless, "products", "import", "-")
	if r.code != exitDenied || len(s.asked) != 1 {
		t.Errorf("asked %q: %+v", s.asked, r)
	}
}

func TestABrokenImportSaysThatItCanBeRepeated(t *testing.T) {
	var asked atomic.Int64
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			reply("{}")(w, r)
			return
		}
		_, _ = io.CopyN(io.Discard, r.Body, 10)
		panic(http.ErrAbortHandler)
	}})
	s.signIn(t)
	r := s.run(t, strings.NewReader(file), "products", "import", "-")
	if r.code != exitFailed || !strings.Contains(r.err, "safe to send the file again") {
		t.Errorf("%+v", r)
	}
}

func TestAFileThatEndsInTheMiddleIsNotTakenForWhole(t *testing.T) {
	var lines atomic.Int64
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": warehouse("", &lines)})
	s.signIn(t)
	broken := io.MultiReader(strings.NewReader(file), failing{})
	if r := s.run(t, broken, "products", "import", "-"); r.code != exitFailed || r.err != "shopctl: the disk is gone\n" {
		t.Errorf("%+v", r)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("the disk is gone") }

func TestImportWaitingForItsFileCanBeInterrupted(t *testing.T) {
	for name, start := range map[string]string{"before it is sent": "s", "while it is sent": file} {
		t.Run(name, func(t *testing.T) {
			var lines atomic.Int64
			s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": warehouse("", &lines)})
			s.signIn(t)
			ctx, cancel := context.WithCancel(t.Context())
			stdin, w := io.Pipe()
			defer w.Close()
			go func() {
				_, _ = io.WriteString(w, start) // is being read
				cancel()
			}()
			if r := s.runContext(t, ctx, stdin, "products", "import", "-"); r.code != exitInterrupted {
				t.Errorf("%+v", r)
			}
		})
	}
}

// However long the file, the memory stays the same.
func TestImportKeepsNothingInMemory(t *testing.T) {
	const total = 200_000
	var taken atomic.Int64
	s := newShop(t, map[string]http.HandlerFunc{"POST /v1/products:import": warehouse("", &taken)})
	s.signIn(t)
	stdin, w := io.Pipe()
	var most uint64
	go func() {
		b := bufio.NewWriter(w)
		fmt.Fprintln(b, "sku,name,category,price,description")
		description := strings.Repeat("long ", 40)
		for i := range total {
			fmt.Fprintf(b, "A-%d,Thing,kitchen,1.50,%s\n", i, description)
			if i%20_000 == 0 {
				most = max(most, heap())
			}
		}
		_ = w.CloseWithError(b.Flush())
	}()
	before := heap()
	if r := s.run(t, stdin, "products", "import", "-"); r.code != exitOK || taken.Load() != total {
		t.Errorf("%d lines: %+v", taken.Load(), r)
	}
	if limit := before + 8<<20; most > limit {
		t.Errorf("%s in memory, of a file of about 45 MB; want at most %s", size(int64(most)), size(int64(limit)))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestLineMapFindsLines(t *testing.T) {
	var m lineMap
	for _, line := range []int64{2, 3, 4, 7, 8, 20} {
		m.add(line)
	}
	var got []int64
	for n := range int64(8) {
		got = append(got, m.line(n))
	}
	if diff := cmp.Diff(got, []int64{0, 2, 3, 4, 7, 8, 20, 21}); diff != "" {
		t.Error(diff)
	}
	for i := range int64(2 * maxRuns) { // every other line is bad
		m.add(100 + 2*i)
	}
	if len(m.runs) != maxRuns || m.line(m.messages) != 0 || m.line(100) != 100+2*93 {
		t.Errorf("%d runs; the last line is %d, that of message 100 %d", len(m.runs), m.line(m.messages), m.line(100))
	}
}

func TestProgress(t *testing.T) {
	p := &progress{total: 2_000_000, terminal: true}
	p.bytes.Store(500_000)
	p.lines.Store(12_345)
	p.bad.Store(2)
	if got, want := p.text(5*time.Second), "[======                  ]  25%  500.0 kB of 2.0 MB  12,345 lines  2,469/s  2 bad"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.total, p.terminal = 0, false
	if got, want := p.text(0), "500.0 kB  12,345 lines  2 bad"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
