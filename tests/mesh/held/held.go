// Package held compares what the contracts say with what a mesh holds of it,
// wherever that was learned: from manifests, from what istiod computes of them,
// or from calls that were made. It knows no more of the generator than the
// contracts that it reads.
package held

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
)

// Policy is what a mesh holds of one RPC. Fields that are not known are left
// out by the Aspects of a comparison.
type Policy struct {
	// Timeout bounds the call; 0 for none.
	Timeout time.Duration
	// AtMost is set where the timeout was seen in a call: it then is at least
	// Timeout and at most this.
	AtMost time.Duration
	// Attempts is how often a call that finds nobody is made, the first included.
	Attempts int
	// PerTry bounds one attempt, and On are the codes that are repeated.
	PerTry time.Duration
	On     []codes.Code
	// Callers are the accounts that may call, sorted.
	Callers []string
	// Access is whose token the call must bring: "anyone", "user" or "admin".
	Access string
}

// Aspect is one part of a Policy.
type Aspect string

// The aspects of a policy.
const (
	Timeout  Aspect = "timeout"
	Attempts Aspect = "attempts"
	PerTry   Aspect = "per_try_timeout"
	On       Aspect = "retry on"
	Callers  Aspect = "callers"
	Access   Aspect = "access"
)

// All are all aspects.
var All = []Aspect{Timeout, Attempts, PerTry, On, Callers, Access}

// Of is what the contract of an RPC asks for.
func Of(r *contract.RPC) Policy {
	p := Policy{Timeout: r.Timeout, AtMost: r.Timeout, Attempts: 1, Callers: r.Callers, Access: "anyone"}
	if r.Retry != nil {
		p.Attempts, p.PerTry, p.On = 1+r.Retry.Attempts, r.Retry.PerTry, r.Retry.On
	}
	switch {
	case r.NeedsAdmin():
		p.Access = "admin"
	case r.NeedsToken():
		p.Access = "user"
	}
	return p
}

// Compare names each aspect of each RPC in which a mesh differs from the
// contracts. held is by full method, with the leading slash.
func Compare(want *contract.Shop, held map[string]Policy, aspects ...Aspect) []string {
	var found []string
	for _, r := range want.RPCs() {
		got, ok := held[r.Path()]
		if !ok {
			found = append(found, r.FullName()+": nothing is known of it")
			continue
		}
		found = append(found, CompareOne(r, got, aspects...)...)
	}
	return found
}

// CompareOne is Compare for a single RPC.
func CompareOne(want *contract.RPC, got Policy, aspects ...Aspect) []string {
	var found []string
	for _, a := range aspects {
		if text := differ(a, got, Of(want)); text != "" {
			found = append(found, fmt.Sprintf("%s: %s: %s", want.FullName(), a, text))
		}
	}
	return found
}

// Count is how many policies a comparison is about.
func Count(want *contract.Shop, aspects ...Aspect) int { return len(want.RPCs()) * len(aspects) }

func differ(a Aspect, got, want Policy) string {
	same, g, w := true, any(nil), any(nil)
	switch a {
	case Timeout:
		if got.AtMost > 0 {
			same = got.Timeout <= want.Timeout && want.Timeout <= got.AtMost
		} else {
			same = got.Timeout == want.Timeout
		}
		g, w = got.Timeout, want.Timeout
	case Attempts:
		same, g, w = got.Attempts == want.Attempts, got.Attempts, want.Attempts
	case PerTry:
		same, g, w = got.PerTry == want.PerTry, got.PerTry, want.PerTry
	case On:
		same, g, w = slices.Equal(got.On, want.On), got.On, want.On
	case Callers:
		same, g, w = slices.Equal(got.Callers, want.Callers), strings.Join(got.Callers, "+"), strings.Join(want.Callers, "+")
	case Access:
		same, g, w = got.Access == want.Access, got.Access, want.Access
	}
	if same {
		return ""
	}
	return fmt.Sprintf("got %v, want %v", g, w)
}
