package gateway

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// httpError is a fault with an HTTP status that its code does not have.
type httpError struct {
	status int
	fault  *fault.Error
	allow  []string // the methods that there are, with 405
}

func (e *httpError) Error() string { return e.fault.Error() }
func (e *httpError) Unwrap() error { return e.fault }

func notAllowed(r *http.Request, allow []string) error {
	if slices.Contains(allow, http.MethodGet) && r.Method != http.MethodHead { // that is none here, then
		allow = append(allow, http.MethodHead)
	}
	return &httpError{http.StatusMethodNotAllowed, fault.Malformed("there is no %s here", r.Method), allow}
}

// fail answers with err as a google.rpc.Status in JSON.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	st := visible(err)
	code := runtime.HTTPStatusFromCode(st.Code())
	h := w.Header()
	if e, ok := err.(*httpError); ok { // made here, and never wrapped
		code = e.status
		if e.allow != nil {
			h.Set("Allow", strings.Join(e.allow, ", "))
		}
	}
	if code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(r, st))
	}
	if after := retryDelay(st); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	note(r.Context(), st, err)
	body := statusJSON(st)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client is gone: nobody to tell
}

// visible returns what the caller may learn of an error: what a service meant
// it to see, and of an outage no more than that there is one.
func visible(err error) *status.Status {
	if f := fault.As(err); f != nil {
		return f.GRPCStatus()
	}
	st := status.Convert(err)
	if st.Code() == codes.Unknown { // the caller's own end of a call has no status yet
		st = status.FromContextError(err)
	}
	if reasonOf(st) != "" {
		return st
	}
	switch st.Code() {
	case codes.Unavailable:
		return fault.Unavailable(time.Second, "a part of the shop is not available; try again later").GRPCStatus()
	case codes.DeadlineExceeded:
		return status.New(codes.DeadlineExceeded, "the shop did not answer in time")
	case codes.Canceled:
		return status.New(codes.Canceled, "the request was given up")
	case codes.Unimplemented:
		return status.New(codes.Unimplemented, "this is not offered")
	}
	return status.New(codes.Internal, "internal error")
}

// reasonOf returns the reason that a service of the shop gave, or "".
func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == fault.Domain {
			return info.GetReason()
		}
	}
	return ""
}

func retryDelay(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// challenge is the WWW-Authenticate header of RFC 6750, section 3: with an
// error only if a token came.
func challenge(r *http.Request, st *status.Status) string {
	c := `Bearer realm="meshmart"`
	if r.Header.Get("Authorization") != "" {
		text := strings.NewReplacer(`"`, "'", `\`, "").Replace(st.Message())
		c += `, error="invalid_token", error_description="` + text + `"`
	}
	return c
}

// statusJSON is the body of an error. A detail of a type that is not known here
// is dropped with the others: the code and the text are what matters.
func statusJSON(st *status.Status) []byte {
	p := st.Proto()
	o := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true} // no "localized_message": null
	body, err := o.Marshal(p)
	if err != nil {
		p.Details = nil
		body, err = o.Marshal(p)
	}
	if err != nil { // text that is not UTF-8
		return []byte(`{"code":13,"message":"internal error","details":[]}`)
	}
	return body
}
