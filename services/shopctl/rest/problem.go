package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
)

// Problem is a refusal or a failure that the shop answered with.
type Problem struct {
	Code       codes.Code
	Text       string
	Violations []*errdetails.BadRequest_FieldViolation
	RetryAfter time.Duration // 0: no advice
	Trace      string        // its id; "" if not told
}

func (p *Problem) Error() string { return p.Text }

// problemOf reads the answer to a request that was not granted: a
// google.rpc.Status, or whatever a proxy on the way says in its place.
func problemOf(status int, h http.Header, body []byte) *Problem {
	p := readProblem(body)
	if p == nil {
		return &Problem{Code: codeOf(status), RetryAfter: retryHeader(h), Text: foreign(status, h)}
	}
	p.Trace = h.Get("X-Trace-Id")
	return p
}

// readProblem reads a google.rpc.Status; nil if it is none. With a detail of a
// kind that is newer than this program, all details are passed over.
func readProblem(body []byte) *Problem {
	st := &statuspb.Status{}
	if protojson.Unmarshal(body, st) != nil {
		var plain struct {
			Code    int32
			Message string
		}
		if json.Unmarshal(body, &plain) != nil {
			return nil
		}
		st = &statuspb.Status{Code: plain.Code, Message: plain.Message}
	}
	if st.GetCode() == 0 {
		return nil
	}
	return problemFrom(st)
}

func problemFrom(st *statuspb.Status) *Problem {
	p := &Problem{Code: codes.Code(st.GetCode()), Text: st.GetMessage()}
	for _, d := range st.GetDetails() {
		m, err := d.UnmarshalNew()
		if err != nil {
			continue // not a known kind
		}
		switch m := m.(type) {
		case *errdetails.BadRequest:
			p.Violations = m.GetFieldViolations()
		case *errdetails.RetryInfo:
			p.RetryAfter = m.GetRetryDelay().AsDuration()
		}
	}
	return p
}

func foreign(status int, h http.Header) string {
	if to := h.Get("Location"); to != "" {
		return fmt.Sprintf("the server sends to %s: set --server to where the shop is", to)
	}
	return fmt.Sprintf("the server answers %d %s, and not as the shop does; is --server right?", status, http.StatusText(status))
}

func codeOf(status int) codes.Code {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	}
	// A 404 from what is not the shop does not say that something was not found.
	return codes.Unknown
}

func retryHeader(h http.Header) time.Duration {
	seconds, _ := strconv.Atoi(h.Get("Retry-After")) // a date is as good as none
	return time.Duration(max(0, min(seconds, 3600))) * time.Second
}

// unreachable says that no answer came, or not all of it: the request may have
// been served.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// Transient reports whether the same request may get another answer later.
func Transient(err error) bool {
	if _, ok := errors.AsType[*unreachable](err); ok {
		return true
	}
	p, ok := errors.AsType[*Problem](err)
	return ok && (p.Code == codes.Unavailable || p.Code == codes.DeadlineExceeded)
}

// advised returns how long the server wants to be left alone.
func advised(err error) time.Duration {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.RetryAfter
	}
	return 0
}

// IsCode reports whether the shop answered with a code.
func IsCode(err error, code codes.Code) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && p.Code == code
}
