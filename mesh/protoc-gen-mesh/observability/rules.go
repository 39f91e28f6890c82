package observability

import (
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"time"
)

const (
	// interval is how many seconds there are between evaluations of the rules. Sums of
	// rates times this are numbers of calls.
	interval = 30
	// fewest is how many bad calls it takes to alert.
	fewest = 5
)

type rulePage struct {
	Runbook string
	RPCs    []rpc
}

var functions = template.FuncMap{
	"burns":    func() []burn { return burns },
	"windows":  func() []string { return []string{"30m", "1h", "6h", "3d"} },
	"number":   number,
	"percent":  func(share float64) string { return number(100*share) + " %" },
	"failures": func() string { return failures },
	"interval": func() int { return interval },
	"fewest":   func() int { return fewest },
	"title":    func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	"bucket":   bucket,
	"spent":    spent,
	"lasts":    lasts,
}

// bucket matches the bucket of the histogram that ends at the time: the runtime
// makes one for each latency that a contract promises. Prometheus 3 writes whole
// seconds as 1.0, older ones as 1.
func bucket(d time.Duration) string {
	le := number(d.Seconds())
	if !strings.Contains(le, ".") {
		return fmt.Sprintf("le=~%q", le+`(\.0)?`)
	}
	return fmt.Sprintf("le=%q", le)
}

const month = 30 * 24 // hours

// spent is the share of a month's budget that goes in the long window.
func spent(b burn) float64 { return b.Factor * b.Hours / month }

// lasts is how long a whole budget lasts at that speed.
func lasts(b burn) string {
	if hours := month / b.Factor; hours < 100 {
		return number(hours) + " hours"
	}
	return number(month/b.Factor/24) + " days"
}

// oneOf matches whichever of the values it is, taken literally, in PromQL's =~.
func oneOf(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return fmt.Sprintf("%q", strings.Join(quoted, "|"))
}
