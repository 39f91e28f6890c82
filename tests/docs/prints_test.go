package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// word finds what is another each time, and what is between.
var word = regexp.MustCompile(`\.\.\.|` + // anything
	`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|` + // an id: later commands have it
	`[\w.-]*\d[\w.-]*|` + // another number, time, ...
	`\s+|[^\w\s]`)

// pattern is what a text that a document shows may be in reality, with a group for
// each of the ids.
func pattern(says string) (*regexp.Regexp, []string) {
	var ids []string
	p := "(?s)" + word.ReplaceAllStringFunc(strings.TrimSpace(says), func(w string) string {
		switch {
		case w == "...":
			return `.*?`
		case len(w) == 36 && strings.Count(w, "-") == 4:
			ids = append(ids, w)
			return `([0-9a-f-]{36})`
		case strings.ContainsAny(w, "0123456789"):
			return `[\w.-]+`
		case strings.TrimSpace(w) == "":
			return `\s*`
		default:
			return regexp.QuoteMeta(w) + `\s*` // JSON is spaced as it likes
		}
	})
	return regexp.MustCompile(p), ids
}

// compare holds what was printed to what a document says, and remembers what its
// ids are here.
func compare(says, printed string, ids map[string]string) error {
	if strings.TrimSpace(says) == "" {
		return nil
	}
	p, names := pattern(says)
	m := p.FindStringSubmatch(printed)
	if m == nil {
		return fmt.Errorf("it says\n%s\nand here it is\n%s", says, printed)
	}
	for i, name := range names {
		ids[name] = m[i+1]
	}
	return nil
}

func TestWhatIsPrintedIsCompared(t *testing.T) {
	const a, b = "01a1fd2a-d8f0-71d5-babd-ce64ad45501c", "01a1fd2a-d975-75ee-b25e-f44d225e3445"
	for _, tt := range []struct {
		says, printed string
		same          bool
	}{
		{`{"id":"` + a + `","state":"DONE",...}`, `{"id":"` + b + `", "state":"DONE", "n":1}`, true},
		{`{"id":"` + a + `","state":"DONE",...}`, `{"id":"` + b + `", "state":"LOST", "n":1}`, false},
		{"           28ms  CONFIRMED\n           58ms  COMPLETED", "  1.5s  CONFIRMED\n  2s  COMPLETED", true},
		{"           28ms  CONFIRMED\n           58ms  COMPLETED", "  1.5s  COMPLETED\n  2s  CONFIRMED", false},
		{"", "anything", true},
	} {
		ids := map[string]string{}
		if err := compare(tt.says, tt.printed, ids); (err == nil) != tt.same {
			t.Errorf("%q and %q: %v", tt.says, tt.printed, err)
		} else if tt.same && strings.Contains(tt.says, a) && ids[a] != b {
			t.Errorf("%q: the id is %q", tt.printed, ids[a])
		}
	}
}
