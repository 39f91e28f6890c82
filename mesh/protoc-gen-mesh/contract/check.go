package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// problem is one policy that is wrong, and where.
type problem struct {
	source Source
	name   string // of the RPC or the service
	text   string
}

func (p problem) of(format string, args ...any) problem {
	p.text = fmt.Sprintf(format, args...)
	return p
}

type problems []problem

// errors are the problems in the order of the files.
func (ps problems) errors() []error {
	slices.SortStableFunc(ps, func(a, b problem) int {
		if c := strings.Compare(a.source.File, b.source.File); c != 0 {
			return c
		}
		return a.source.Line - b.source.Line
	})
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = errors.New(p.source.String() + ": " + p.name + ": " + p.text)
	}
	return errs
}

// problems are those that can be told only of all services together, and those
// of each RPC by itself.
func (s *Shop) problems() problems {
	var found problems
	byPath := map[string]*RPC{}
	for _, r := range s.RPCs() {
		byPath[r.Path()] = r
	}
	for _, r := range s.RPCs() {
		at := problem{r.Source, r.FullName(), ""}
		texts := slices.Concat(r.whoProblems(s.Accounts()), r.timeProblems(), r.retryProblems(), r.boundProblems(), r.callProblems(byPath))
		for _, text := range texts {
			found = append(found, at.of("%s", text))
		}
	}
	return found
}

// whoProblems are about who may call.
func (r *RPC) whoProblems(accounts []string) []string {
	var texts []string
	if _, known := meshpb.Access_name[int32(r.Access)]; !known || r.Access == meshpb.Access_ACCESS_UNSPECIFIED {
		texts = append(texts, "no access: say on whose behalf it may be called")
	}
	if len(r.Callers) == 0 {
		texts = append(texts, "no callers: nobody could call it")
	}
	for i, c := range r.Callers {
		if !slices.Contains(accounts, c) {
			texts = append(texts, fmt.Sprintf("the caller %q does not exist: there are %s", c, strings.Join(accounts, ", ")))
		}
		if i > 0 && c == r.Callers[i-1] {
			texts = append(texts, fmt.Sprintf("the caller %q is there twice", c))
		}
	}
	if r.Access == meshpb.Access_ACCESS_INTERNAL && len(r.Routes) > 0 {
		texts = append(texts, fmt.Sprintf("access is internal, and yet it has the public route %s %s", r.Routes[0].Verb, r.Routes[0].Path))
	}
	return texts
}

// timeProblems are about the timeouts of the RPC by itself.
func (r *RPC) timeProblems() []string {
	var texts []string
	if r.Timeout < 0 || r.Timeout == 0 && !r.Streaming() {
		texts = append(texts, "no timeout: every unary RPC has to be answered in time")
	}
	if r.Timeout%time.Millisecond != 0 || r.Retry != nil && r.Retry.PerTry%time.Millisecond != 0 {
		texts = append(texts, "a timeout of less than whole milliseconds: not every mesh can say it")
	}
	if r.Retry == nil || r.Timeout <= 0 {
		return texts
	}
	switch all := r.Retry.PerTry * time.Duration(r.Retry.Attempts+1); {
	case r.Retry.PerTry > r.Timeout:
		texts = append(texts, fmt.Sprintf("per_try_timeout %v is longer than timeout %v", r.Retry.PerTry, r.Timeout))
	case all > r.Timeout:
		texts = append(texts, fmt.Sprintf("%d attempts of %v do not fit into timeout %v", r.Retry.Attempts+1, r.Retry.PerTry, r.Timeout))
	}
	return texts
}

// maxAttempts is what gRPC's own retry stops at, the first attempt included:
// more would not be the same in every mesh.
const maxAttempts = 5

func (r *RPC) retryProblems() []string {
	if r.Retry == nil {
		return nil
	}
	var texts []string
	if !r.Idempotent {
		texts = append(texts, "retry without idempotency_level: a repetition might act twice")
	}
	if r.Streaming() {
		texts = append(texts, "retry on a stream: what has been sent can't be sent again")
	}
	if n := r.Retry.Attempts; n < 1 || n >= maxAttempts {
		texts = append(texts, fmt.Sprintf("retry with %d attempts: 1 to %d", n, maxAttempts-1))
	}
	if r.Retry.PerTry <= 0 {
		texts = append(texts, "retry without per_try_timeout: the first attempt might take all of the time")
	}
	for _, c := range r.Retry.On {
		if why := r.notRetried(c); why != "" {
			texts = append(texts, fmt.Sprintf("retry on %v: %s", c, why))
		}
	}
	return texts
}

// notRetried says why a code is not repeated, "" for one that may be. A code is
// repeated only if it says that nothing has happened yet, or nothing ever does.
func (r *RPC) notRetried(c codes.Code) string {
	switch c {
	case codes.Unavailable:
		return ""
	case codes.DeadlineExceeded, codes.Internal:
		if r.ReadOnly {
			return ""
		}
		return "something may have happened; only an RPC with NO_SIDE_EFFECTS is repeated on it"
	case codes.Canceled:
		return "the caller has given up"
	case codes.ResourceExhausted:
		return "more calls would make it worse"
	}
	return "it is an answer, and a repetition gets the same or acts twice"
}

// boundProblems are about rates and objectives.
func (r *RPC) boundProblems() []string {
	var texts []string
	if r.Rate != nil && (!(r.Rate.GetPerSecond() > 0) || r.Rate.GetBurst() == 0) {
		texts = append(texts, fmt.Sprintf("rate %v per second, burst %d: both have to be positive", r.Rate.GetPerSecond(), r.Rate.GetBurst()))
	}
	if r.SLO == nil {
		return texts
	}
	if a := r.SLO.GetAvailability(); !(a > 0 && a < 1) {
		texts = append(texts, fmt.Sprintf("slo with availability %v: not between 0 and 1", a))
	}
	latency, q := r.SLO.GetLatency().AsDuration(), r.SLO.GetLatencyQuantile()
	if (r.SLO.GetLatency() != nil || q != 0) && (latency <= 0 || !(q > 0 && q < 1)) {
		texts = append(texts, fmt.Sprintf("slo with latency %v for the share %v: not a time and a share between 0 and 1", latency, q))
	}
	return texts
}

// callProblems are about the calls that the RPC makes: they have to be allowed,
// and to fit into its own time one after the other.
func (r *RPC) callProblems(byPath map[string]*RPC) []string {
	var texts []string
	var sum time.Duration
	for _, path := range r.Calls {
		name := strings.TrimPrefix(path, "/")
		callee := byPath[path]
		if callee == nil {
			texts = append(texts, fmt.Sprintf("calls %s, which does not exist", name))
			continue
		}
		if !slices.Contains(callee.Callers, r.Host) {
			texts = append(texts, fmt.Sprintf("calls %s (%s), which does not have %q among its callers", name, callee.Source, r.Host))
		}
		if callee.reaches(r, byPath, map[*RPC]bool{}) {
			texts = append(texts, fmt.Sprintf("calls %s, which calls back", name))
		}
		if callee.Timeout <= 0 && r.Timeout > 0 {
			texts = append(texts, fmt.Sprintf("calls %s, which has no timeout, within %v", name, r.Timeout))
		}
		sum += callee.Timeout
	}
	if sum > r.Timeout && r.Timeout > 0 {
		texts = append(texts, fmt.Sprintf("timeout %v is shorter than those of the calls that it makes, together %v", r.Timeout, sum))
	}
	return texts
}

// reaches reports whether a call of r comes to the other one.
func (r *RPC) reaches(other *RPC, byPath map[string]*RPC, seen map[*RPC]bool) bool {
	if r == other {
		return true
	}
	if seen[r] {
		return false
	}
	seen[r] = true
	return slices.ContainsFunc(r.Calls, func(path string) bool {
		next := byPath[path]
		return next != nil && next.reaches(other, byPath, seen)
	})
}
