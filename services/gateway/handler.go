package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	userpb "github.com/meshmart/meshmart/proto/user/v1"
	"github.com/meshmart/meshmart/services/internal/auth"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// api serves the routes of the contracts. It checks each request itself, so that
// an error can name the field.
type api struct {
	routes   routes
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

// ServeHTTP answers one request for a route of the contracts.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	rt, params, allow := a.routes.find(method(r), r.URL.Path)
	switch {
	case rt != nil && r.Method == http.MethodHead && rt.rpc.IsStreamingServer(): // it has no end to wait for
		fail(w, r, notAllowed(r, []string{http.MethodGet}))
		return
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
// server leaves out.
func method(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

func (a *api) serve(w http.ResponseWriter, r *http.Request, rt *route, params []param) error {
	in := rt.in.New().Interface()
	if err := checkHead(rt, r, params, in); err != nil {
		return err
	}
	if rt.rpc.IsStreamingClient() {
		return a.serveLines(w, r, rt)
	}
	if err := a.decodeBody(w, r, rt, in); err != nil {
		return err
	}
	for _, p := range params {
		if err := runtime.PopulateFieldFromPath(in, p.name, p.value); err != nil {
			return fault.Invalid(p.name, "is not valid")
		}
	}
	if rt.rpc.IsStreamingServer() {
		return a.serveEvents(w, r, rt, in)
	}
	return a.serveReply(w, r, rt, in)
}

// serveReply makes a unary call, and answers with its reply.
func (a *api) serveReply(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	out := rt.out.New()
	if err := a.conns[rt.host].Invoke(outgoing(r.Context(), r), rt.full, in, out.Interface()); err != nil {
		return err
	}
	if rt.shown != nil {
		out = out.Get(rt.shown).Message()
	}
	body, err := output().Marshal(out.Interface())
	if err != nil {
		return fmt.Errorf("marshal the reply of %s: %w", rt.full, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client is gone: nobody to tell
	return nil
}

// outgoing is ctx with what a service needs of a request's headers: the token, and
// the client's address.
func outgoing(ctx context.Context, r *http.Request) context.Context {
	pairs := make([]string, 0, 4)
	for _, token := range r.Header.Values("Authorization") {
		pairs = append(pairs, "authorization", token)
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		pairs = append(pairs, "x-forwarded-for", host)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// checkHead checks everything of a request but its body, and reads the query into
// in.
func checkHead(rt *route, r *http.Request, params []param, in proto.Message) error {
	for _, p := range params {
		if !utf8.ValidString(p.value) {
			return fault.Invalid(p.name, "is not valid UTF-8")
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.Malformed("the query is not properly encoded")
	}
	if err := readQuery(rt, query, in); err != nil {
		return err
	}
	for _, v := range r.Header.Values("Authorization") {
		// gRPC would refuse to send it, without saying why.
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

// decodeBody reads the body of a request into in, or into the field of it that the
// body is.
func (a *api) decodeBody(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	if rt.body == "" {
		return nil
	}
	text, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		if rt.needsBody() {
			return fault.Malformed("%s %s needs a JSON body", rt.method, rt.template)
		}
		return nil
	}
	root := strings.Trim(rt.body, "*")
	m := in
	if root != "" {
		m = in.ProtoReflect().Mutable(rt.rpc.Input().Fields().ByName(protoreflect.Name(root))).Message().Interface()
	}
	if err := (jsonBody{text, root}).decode(m); err != nil {
		return err
	}
	if rt.method == http.MethodPatch {
		return setMask(in, rt, text)
	}
	return nil
}

// setMask fills in an update_mask that the query does not have.
func setMask(in proto.Message, rt *route, body []byte) error {
	fd := rt.rpc.Input().Fields().ByName("update_mask")
	if fd == nil || in.ProtoReflect().Has(fd) {
		return nil
	}
	mask := updateMask(rt.message(), body)
	if mask == nil {
		return fault.Invalid(rt.body, "there is nothing in it to be changed")
	}
	in.ProtoReflect().Set(fd, protoreflect.ValueOfMessage((&fieldmaskpb.FieldMask{Paths: mask}).ProtoReflect()))
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
