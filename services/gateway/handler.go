package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// api serves the routes of the contracts. It checks each request itself, so
// that an error can name the field; then grpc-gateway makes the unary calls
// (handler.go), and streams are carried here (handler_stream.go): of those
// grpc-gateway knows neither server-sent events nor the end of a bad one.
type api struct {
	routes   routes
	mux      *runtime.ServeMux
	conns    map[string]grpc.ClientConnInterface // by the service's name
	users    userpb.AuthServiceClient
	maxBody  int64         // of a body, or of one message of a stream
	bodyTime time.Duration // that a body may take to arrive
	// heartbeat is how long an event stream is silent at most, so that proxies
	// between here and the client do not take it for dead.
	heartbeat time.Duration
	draining  <-chan struct{}
}

// output is how messages are written: with the contracts' names, and whole.
func output() protojson.MarshalOptions {
	return protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}
}

// register hands the unary RPCs to grpc-gateway.
func (a *api) register() error {
	nothing := func(string) (string, bool) { return "", false }
	a.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{MarshalOptions: output()}),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
			fail(w, r, err)
		}),
		// Of the headers the services need the token and the client's address,
		// which are always passed on, and the client none of gRPC's.
		runtime.WithIncomingHeaderMatcher(nothing),
		runtime.WithOutgoingHeaderMatcher(nothing),
		runtime.WithOutgoingTrailerMatcher(nothing),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	a.users = userpb.NewAuthServiceClient(a.conns["user"])
	ctx := context.Background()
	var errs []error
	for _, s := range routed() {
		for _, serve := range s.serve {
			errs = append(errs, serve(ctx, a.mux, a.conns[s.name]))
		}
	}
	return errors.Join(errs...)
}

// ServeHTTP answers one request for a route of the contracts.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	rt, params, allow := a.routes.find(method(r), r.URL.Path)
	switch {
	case rt != nil:
	case allow != nil:
		fail(w, r, notAllowed(r, allow))
		return
	default:
		serveNothing(w, r)
		return
	}
	r.Pattern = rt.template // the name of the span, of the log line and of the metrics
	if err := a.serve(w, r, rt, params); err != nil {
		fail(w, r, err)
	}
}

// method is the method that a route is found by: HEAD is a GET whose body the
// server leaves out. A stream has no end to wait for, and thus no HEAD.
func method(r *http.Request) string {
	if r.Method == http.MethodHead && !strings.Contains(r.URL.Path, ":") {
		return http.MethodGet
	}
	return r.Method
}

func (a *api) serve(w http.ResponseWriter, r *http.Request, rt *route, params map[string]string) error {
	if err := checkHead(rt, r, params); err != nil {
		return err
	}
	switch {
	case rt.rpc.IsStreamingClient():
		return a.serveLines(w, r, rt)
	case rt.rpc.IsStreamingServer():
		return a.serveEvents(w, r, rt, params)
	}
	if err := a.checkBody(w, r, rt); err != nil {
		return err
	}
	r.Method = rt.method
	r.Header.Del("Content-Type") // it was checked, and of one that means nothing grpc-gateway would complain to stderr
	a.mux.ServeHTTP(w, r)
	return nil
}

// checkHead checks everything of a request but its body.
func checkHead(rt *route, r *http.Request, params map[string]string) error {
	for name, value := range params {
		if !utf8.ValidString(value) {
			return fault.Invalid(name, "is not valid UTF-8")
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.Malformed("the query is not properly encoded")
	}
	if err := checkQuery(rt, query); err != nil {
		return err
	}
	for _, v := range r.Header.Values("Authorization") {
		// grpc-gateway would drop it, and the call go on as nobody's.
		if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fault.Unauthenticated(auth.ReasonInvalid, "the authorization header has characters that no token has")
		}
	}
	return checkContent(rt, r)
}

// checkContent holds the body to JSON, or to nothing.
func checkContent(rt *route, r *http.Request) error {
	if rt.body == "" {
		if r.ContentLength != 0 {
			return fault.Malformed("%s %s takes no body", rt.method, rt.template)
		}
		return nil
	}
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	accepted := []string{"application/json"}
	if rt.rpc.IsStreamingClient() {
		accepted = append(accepted, "application/x-ndjson", "application/jsonl")
	}
	media, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	if err != nil || !slices.Contains(accepted, media) || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &httpError{http.StatusUnsupportedMediaType, fault.Malformed("the body must be %s in UTF-8, not %q", accepted[0], given), nil}
	}
	return nil
}

// checkBody reads the body of a unary call and decodes it once by itself, since
// grpc-gateway's errors do not tell fields, and then puts it back.
func (a *api) checkBody(w http.ResponseWriter, r *http.Request, rt *route) error {
	if rt.body == "" {
		return nil
	}
	text, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	if len(bytes.TrimSpace(text)) == 0 {
		if rt.needsBody() {
			return fault.Malformed("%s %s needs a JSON body", rt.method, rt.template)
		}
		return nil
	}
	m, err := newMessage(rt.message())
	if err != nil {
		return err
	}
	if err := (jsonBody{text, strings.Trim(rt.body, "*")}).decode(m); err != nil {
		return err
	}
	if rt.method == http.MethodPatch && rt.rpc.Input().Fields().ByName("update_mask") != nil {
		return setMask(r, rt, text)
	}
	return nil
}

// setMask adds an update_mask to the query if it has none.
func setMask(r *http.Request, rt *route, body []byte) error {
	q := r.URL.Query()
	if q.Has("update_mask") || q.Has("updateMask") {
		return nil
	}
	mask := updateMask(rt.message(), body)
	if mask == "" {
		return fault.Invalid(rt.body, "there is nothing in it to be changed")
	}
	q.Set("update_mask", mask)
	r.URL.RawQuery = q.Encode()
	return nil
}

func (a *api) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.bodyTime)) // not every writer can
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.maxBody))
	if err != nil {
		return nil, a.unreadable(err)
	}
	return text, nil
}

// unreadable says why a body could not be read to its end.
func (a *api) unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &httpError{http.StatusRequestEntityTooLarge, fault.Malformed("the body is larger than %d bytes", a.maxBody), nil}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &httpError{http.StatusRequestTimeout, fault.Malformed("the body did not come within %v", a.bodyTime), nil}
	}
	return fault.Malformed("the body is not complete")
}

// only answers GET and HEAD.
func only(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			fail(w, r, notAllowed(r, []string{http.MethodGet}))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serveKeys publishes the keys of the access tokens as a JWK Set (RFC 7517).
func (a *api) serveKeys(w http.ResponseWriter, r *http.Request) {
	reply, err := a.users.GetJwks(r.Context(), &userpb.GetJwksRequest{})
	if err != nil {
		fail(w, r, err)
		return
	}
	keys := make([]auth.JWK, 0, len(reply.GetKeys()))
	for _, k := range reply.GetKeys() {
		keys = append(keys, auth.FromProto(k))
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys}) // the client is gone: nobody to tell
}

func serveHealthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// serveNothing answers for every path that there is not.
func serveNothing(w http.ResponseWriter, r *http.Request) {
	r.Pattern = "" // one name for all of them
	fail(w, r, fault.NotFound("there is nothing at %s; see /docs", strings.ToValidUTF8(r.URL.Path, "\uFFFD")))
}
