package importfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// cut returns the records of a text, each after the number of its line.
func cut(t *testing.T, r *records) []string {
	t.Helper()
	var got []string
	for {
		text, err := r.read()
		switch {
		case errors.Is(err, io.EOF):
			return got
		case errors.Is(err, errLong):
			text = []byte("LONG")
		case err != nil:
			t.Fatal(err)
		}
		if len(text) > 20 {
			text = text[:20]
		}
		got = append(got, fmt.Sprintf("%d:%s", r.line, text))
	}
}

func TestRecordsKeepQuotedLineBreaks(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"plain", "a,b\nc,d\n", []string{"1:a,b", "2:c,d"}},
		{"no last line break", "a\r\nb", []string{"1:a", "2:b"}},
		{"empty lines", "a\n\n\nb\n", []string{"1:a", "2:", "3:", "4:b"}},
		{"quoted", "a,\"b\nc\"\nd\n", []string{"1:a,\"b\nc\"", "3:d"}},
		{"doubled quotes", "\"a \"\"b\"\"\nc\",d\ne\n", []string{"1:\"a \"\"b\"\"\nc\",d", "3:e"}},
		{"a quote inside of a field opens nothing", "5\" pipe,x\ny\n", []string{"1:5\" pipe,x", "2:y"}},
		{"text after a closing quote", "\"a\"b,c\nd\n", []string{"1:\"a\"b,c", "2:d"}},
		{"a quote that is not closed costs its line", "a\n\"b,c\nd\ne", []string{"1:a", "2:\"b,c", "3:d", "4:e"}},
		{"nothing", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, from := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				if diff := cmp.Diff(cut(t, newRecords(from, true)), tt.want); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestLongLinesCostNothingElse(t *testing.T) {
	long := strings.Repeat("x", 5*maxRecord)
	for _, isCSV := range []bool{true, false} {
		got := cut(t, newRecords(strings.NewReader("a\n"+long+"\nb\n"+long+"\n"+long), isCSV))
		if diff := cmp.Diff(got, []string{"1:a", "2:LONG", "3:b", "4:LONG", "5:LONG"}); diff != "" {
			t.Errorf("CSV %v: %s", isCSV, diff)
		}
	}
	// A quote is open for longer than a record may be: the lines after it count.
	text := "a\n\"" + strings.Repeat("line\n", maxRecord/4) + "last\n"
	got := cut(t, newRecords(strings.NewReader(text), true))
	if want := maxRecord/4 + 2; len(got) != want || got[1] != "2:\"line" || got[want-1] != fmt.Sprintf("%d:last", want) {
		t.Errorf("%d records from %q to %q, want %d", len(got), got[:2], got[len(got)-1], want)
	}
}

// What encoding/csv writes is cut where it ended a record.
func TestRecordsAgreeWithTheCSVPackage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var text bytes.Buffer
		w := csv.NewWriter(&text)
		var want [][]string
		for range 1 + random.IntN(5) {
			row := make([]string, 1+random.IntN(3))
			for i := range row {
				for range random.IntN(6) {
					row[i] += string("ab\",\n "[random.IntN(6)])
				}
			}
			want = append(want, row)
			_ = w.Write(row) // into memory
		}
		w.Flush()
		r := newRecords(&text, true)
		var got [][]string
		for record, err := r.read(); err == nil; record, err = r.read() {
			if len(record) == 0 { // as one empty field is written
				got = append(got, []string{""})
				continue
			}
			fields, err := splitCSV(record)
			if err != nil {
				t.Fatalf("%q: %v", record, err)
			}
			got = append(got, fields)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatal(diff)
		}
	}
}
