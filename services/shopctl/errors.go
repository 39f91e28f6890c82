package shopctl

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/services/shopctl/rest"
	"github.com/meshmart/meshmart/services/shopctl/signin"
)

// partly says that some lines of an import were not taken.
type partly struct{ rejected, received int64 }

func (e *partly) Error() string {
	return fmt.Sprintf("%s of %s lines were rejected", count(e.rejected), count(e.received))
}

func exitCode(err error) int {
	p, answered := errors.AsType[*rest.Problem](err)
	_, usage := errors.AsType[*usageError](err)
	_, some := errors.AsType[*partly](err)
	switch {
	case usage:
		return exitUsage
	case some:
		return exitPartly
	case errors.Is(err, signin.ErrSignedOut), answered && (p.Code == codes.Unauthenticated || p.Code == codes.PermissionDenied):
		return exitDenied
	case answered && p.Code == codes.NotFound:
		return exitNotFound
	}
	return exitFailed
}

// explain tells people what went wrong, with everything that helps to mend it.
func explain(w io.Writer, err error) {
	text := err.Error()
	fmt.Fprintf(w, "shopctl: %s\n", clean(text))
	if errors.Is(err, syscall.ECONNREFUSED) {
		fmt.Fprintln(w, "  is the shop running there? start one with: make run")
	}
	p, ok := errors.AsType[*rest.Problem](err)
	if !ok {
		return
	}
	for _, v := range p.Violations {
		if told := v.GetField() + ": " + v.GetDescription(); !strings.Contains(text, told) {
			fmt.Fprintf(w, "  %s\n", clean(told))
		}
	}
	if p.RetryAfter > 0 {
		fmt.Fprintf(w, "  try again in %v\n", p.RetryAfter)
	}
	if p.Trace != "" && (p.Code == codes.Internal || p.Code == codes.Unknown || p.Code == codes.DeadlineExceeded) {
		fmt.Fprintf(w, "  trace %s\n", clean(p.Trace))
	}
}
