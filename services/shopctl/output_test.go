package shopctl

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTablesFitTheTerminal(t *testing.T) {
	tab := &table{head: []string{"ID", "NAME", ">N"}, flexible: 1}
	tab.add("a", "A rather long name of a thing", 5)
	tab.add("b", "Größe", 1234)
	var got bytes.Buffer
	tab.write(&got, 24, false)
	want := "ID  NAME               N\n" +
		"a   A rather long…     5\n" +
		"b   Größe           1234\n"
	if diff := cmp.Diff(got.String(), want); diff != "" {
		t.Error(diff)
	}
	got.Reset()
	tab.write(&got, 0, false) // no terminal: nothing is cut
	if !bytes.Contains(got.Bytes(), []byte("A rather long name of a thing     5\n")) {
		t.Errorf("got\n%s", &got)
	}
}

func TestColorsAreForStatesAndDoNotCountAsWidth(t *testing.T) {
	tab := &table{head: []string{"", ""}}
	tab.add("COMPLETED", "x")
	tab.add("PENDING", "x")
	var got bytes.Buffer
	tab.write(&got, 0, true)
	if want := "\x1b[32mCOMPLETED\x1b[0m  x\n\x1b[33mPENDING\x1b[0m    x\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

func TestWhatOthersWroteCannotSteerTheTerminal(t *testing.T) {
	if got, want := clean("a\x1b]0;x\x07\nb\tc\u202e\u009b1m\xff é"), "a?]0;x? b c??1m? é"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{12: "12 B", 1000: "1.0 kB", 12_345_678: "12.3 MB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1234567 * time.Microsecond: "1.2s", 1234 * time.Microsecond: "1ms"} {
		if got := short(d).String(); got != want {
			t.Errorf("short(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestAddressesHaveOneForm(t *testing.T) {
	for given, want := range map[string]string{
		"localhost:8080": "http://localhost:8080", "HTTPS://Shop.Example/": "https://shop.example", "http://h/base/": "http://h/base",
		"http://[::1]:80": "http://[::1]:80",
	} {
		if got, err := address(given); got != want || err != nil {
			t.Errorf("address(%q) = %q, %v, want %q", given, got, err, want)
		}
	}
	for _, given := range []string{"", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h#x", "::"} {
		if got, err := address(given); err == nil {
			t.Errorf("address(%q) = %q, want an error", given, got)
		}
	}
}
