// Package fault holds the errors that a service means its caller to see.
//
// A fault keeps its code, its text and its details across services. Any other
// error is a bug or an outage: the server logs it, and the caller learns no
// more than that. The details are those of google.rpc (AIP-193): a machine
// reads the reason, a form the field, a client that may try again the delay.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the domain of every ErrorInfo of the shop.
const Domain = "meshmart"

// Error is a failure with a meaning for the caller. Its text is public.
type Error struct {
	code       codes.Code
	reason     string // UPPER_SNAKE_CASE, for machines
	text       string
	violations []Violation
	meta       map[string]string
	retryAfter time.Duration // 0: no advice
}

// Violation says what is wrong with one field of a request.
type Violation struct {
	Field  string // its path, such as "items[1].quantity"
	Reason string // UPPER_SNAKE_CASE, may be empty
	Text   string
}

func newf(c codes.Code, reason, format string, args []any) *Error {
	return &Error{code: c, reason: reason, text: fmt.Sprintf(format, args...)}
}

// Invalid refuses a request because of the value of a field (INVALID_ARGUMENT).
func Invalid(field, format string, args ...any) *Error {
	return Violations(Violation{Field: field, Text: fmt.Sprintf(format, args...)})
}

// Violations refuses a request because of several fields (INVALID_ARGUMENT).
func Violations(vs ...Violation) *Error {
	e := &Error{code: codes.InvalidArgument, reason: "INVALID_FIELD", violations: vs}
	for i, v := range vs {
		if i > 0 {
			e.text += "; "
		}
		e.text += v.Field + ": " + v.Text
	}
	return e
}

// Malformed refuses a request that can't be read at all (INVALID_ARGUMENT).
func Malformed(format string, args ...any) *Error {
	return newf(codes.InvalidArgument, "MALFORMED_REQUEST", format, args)
}

// NotFound says that the resource does not exist, or not for this caller.
func NotFound(format string, args ...any) *Error {
	return newf(codes.NotFound, "NOT_FOUND", format, args)
}

// Exists says that what was to be created is there already.
func Exists(reason, format string, args ...any) *Error {
	return newf(codes.AlreadyExists, reason, format, args)
}

// Refused says that the state of the shop does not allow the request
// (FAILED_PRECONDITION); repeating it helps only once that state is another.
func Refused(reason, format string, args ...any) *Error {
	return newf(codes.FailedPrecondition, reason, format, args)
}

// Aborted says that somebody else was faster, as a stale etag shows: read
// again and decide anew.
func Aborted(reason, format string, args ...any) *Error {
	return newf(codes.Aborted, reason, format, args)
}

// OutOfRange says that a position is past what can be read.
func OutOfRange(field, format string, args ...any) *Error {
	e := Violations(Violation{Field: field, Text: fmt.Sprintf(format, args...)})
	e.code, e.reason = codes.OutOfRange, "OUT_OF_RANGE"
	return e
}

// Unauthenticated says that the token is missing or not accepted.
func Unauthenticated(reason, format string, args ...any) *Error {
	return newf(codes.Unauthenticated, reason, format, args)
}

// Denied says that the caller is known and may not.
func Denied(reason, format string, args ...any) *Error {
	return newf(codes.PermissionDenied, reason, format, args)
}

// Exhausted says that the caller asks too much; nobody retries it before the
// delay has passed.
func Exhausted(after time.Duration, format string, args ...any) *Error {
	e := newf(codes.ResourceExhausted, "RATE_LIMITED", format, args)
	e.retryAfter = after
	return e
}

// Unavailable says that nothing was done and that the same request may succeed
// later. It must not be returned after the first side effect: a mesh retries it.
func Unavailable(after time.Duration, format string, args ...any) *Error {
	e := newf(codes.Unavailable, reasonUnavailable, format, args)
	e.retryAfter = after
	return e
}

const reasonUnavailable = "UNAVAILABLE"

// Out is Unavailable for a service that works itself and lacks another part of
// the shop, which the reason names.
func Out(reason string, after time.Duration, format string, args ...any) *Error {
	e := Unavailable(after, format, args...)
	e.reason = reason
	return e
}

// Elsewhere reports whether an error that another service answered with is Out
// there, or says that what it lacks did not answer it in time.
func Elsewhere(err error) bool {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded {
		return false
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason() != reasonUnavailable
		}
	}
	return false
}

// With returns a copy of e that also tells the key and its value to machines.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.meta = maps.Clone(e.meta)
	if c.meta == nil {
		c.meta = map[string]string{}
	}
	c.meta[key] = value
	return &c
}

func (e *Error) Error() string { return e.text }

// Code returns the gRPC code of the fault.
func (e *Error) Code() codes.Code { return e.code }

// Reason returns what kind of fault it is, in UPPER_SNAKE_CASE.
func (e *Error) Reason() string { return e.reason }

// Detail returns what With has told under the key, or "".
func (e *Error) Detail(key string) string { return e.meta[key] }

// RetryAfter returns how long the caller should wait, or 0 for no advice.
func (e *Error) RetryAfter() time.Duration { return e.retryAfter }

// Fields returns what is wrong with which field.
func (e *Error) Fields() []Violation { return e.violations }

// GRPCStatus returns the fault as it travels.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.code, e.text)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.reason, Domain: Domain, Metadata: e.meta}}
	if len(e.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range e.violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: v.Field, Reason: v.Reason, Description: v.Text,
			})
		}
		details = append(details, bad)
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	if d, err := s.WithDetails(details...); err == nil {
		return d
	}
	return s
}

// As returns the fault in err, or nil if there is none.
func As(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}

// Code returns the code of the fault in err; OK for nil, UNKNOWN for another error.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if f := As(err); f != nil {
		return f.code
	}
	return codes.Unknown
}

// Reason returns the reason of the fault in err, or "".
func Reason(err error) string {
	if f := As(err); f != nil {
		return f.reason
	}
	return ""
}

// FromStatus returns the fault that another service answered with. An error
// that carries no meaning for a caller further up (INTERNAL, UNKNOWN,
// UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED and the like) is returned as it is.
func FromStatus(err error) error {
	s, ok := status.FromError(err)
	if !ok || !meant(s.Code()) {
		return err
	}
	e := &Error{code: s.Code(), text: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.reason, e.meta = d.GetReason(), d.GetMetadata()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.violations = append(e.violations, Violation{v.GetField(), v.GetReason(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.retryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// meant reports whether a code says something about the request rather than
// about the machinery.
func meant(c codes.Code) bool {
	switch c {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.ResourceExhausted,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unauthenticated:
		return true
	}
	return false
}
