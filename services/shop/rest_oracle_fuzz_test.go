package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// answer is what the shop said to a shot.
type answer struct {
	status int
	header http.Header
	body   []byte
	open   bool   // a stream without end, which was left
	code   int    // of an error: google.rpc.Code
	reason string // of an error
}

// through reports whether the request got past all that checks its form: it
// was answered, or refused for what the shop has in store.
func (a *answer) through() bool {
	return a.open || a.status == http.StatusOK || a.status >= 400 && a.reason != "" &&
		!slices.Contains([]string{"INVALID_FIELD", "MALFORMED_REQUEST", "TOKEN_INVALID", "RATE_LIMITED"}, a.reason)
}

// fire sends a shot and reads the answer; a stream for as long as patience.
func (r *rig) fire(s *shot, patience time.Duration) (*answer, error) {
	limit := time.Minute // else it hangs
	if s.op.gets && !s.op.sends {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var body io.Reader
	if s.body != "" {
		body = strings.NewReader(s.body)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, r.base+s.url, body)
	if err != nil {
		return nil, nil // not even a client could send it
	}
	req.Header = s.header
	resp, err := r.http.Do(req)
	if err != nil && limit == patience && errors.Is(err, context.DeadlineExceeded) {
		return &answer{open: true}, nil
	} else if err != nil {
		return nil, r.lost(s, err)
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	a.open = limit == patience && errors.Is(err, context.DeadlineExceeded)
	if err != nil && !a.open {
		return nil, r.lost(s, err)
	}
	return a, nil
}

// lost passes over what happens to a client that sends more than is read: the
// server answers and hangs up.
func (r *rig) lost(s *shot, err error) error {
	if len(s.body) > 1<<20 || strings.Contains(err.Error(), "invalid header") {
		return nil
	}
	return fmt.Errorf("%s: no answer: %w", s, err)
}

// inside matches what must stay inside.
var inside = regexp.MustCompile(`(?i)sqlite|sqlstate|\bpgx|constraint failed|goroutine \d|\.go:\d+|panic|runtime error|rpc error|dial tcp|` +
	`connection refused|no such table|syntax error at|context (canceled|deadline)|proto: |nats:|/services/`)

// judge says what is wrong with an answer.
func (r *rig) judge(s *shot, a *answer) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s\nwas answered %d %.600s\n%s", s, a.status, a.body, fmt.Sprintf(format, args...))
	}
	if leak := inside.FindString(string(a.body)); leak != "" && a.status >= 400 && !strings.Contains(s.String(), leak) {
		return fail("which lets out %q", leak)
	}
	switch {
	case a.status == 0: // a stream that had nothing to say
		return nil
	case a.status >= 500 && a.status != http.StatusNotImplemented:
		return fail("which is the shop's own fault")
	case a.status >= 300 && a.status < 400:
		if clean := !strings.Contains(s.url, "//") && !strings.Contains(s.url, "."); clean {
			return fail("which leads elsewhere")
		}
		return nil
	case s.method == http.MethodHead:
		return nil
	case a.status >= 400:
		if why := r.misfitError(a); why != "" {
			return fail("%s", why)
		}
		return nil
	case !s.asDocumented:
		return nil
	}
	if why := r.forbidden(s, a); why != "" {
		return fail("%s", why)
	}
	if why := r.misfit(s, a); why != "" {
		return fail("%s", why)
	}
	return nil
}

// misfitError says why an error is not a google.rpc.Status with the HTTP status
// of its code.
func (r *rig) misfitError(a *answer) string {
	if t := a.header.Get("Content-Type"); t != "application/json" {
		return "the error is " + t
	}
	v, why := r.read(&schema{Ref: "#/definitions/google.rpc.Status"}, a.body)
	if why != "" {
		return why
	}
	code, _ := v["code"].(json.Number)
	n, _ := code.Int64()
	a.code = int(n)
	for _, d := range v["details"].([]any) {
		if reason, ok := d.(object)["reason"].(string); ok {
			a.reason = reason
		}
	}
	ownStatus := []int{http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
	switch {
	case v["message"] == "" || v["message"] == nil:
		return "the error says nothing"
	case a.reason == "" && !slices.Contains([]int{int(codes.Unimplemented), int(codes.Canceled)}, a.code):
		return "the error has no reason"
	case a.code == int(codes.InvalidArgument) && slices.Contains(ownStatus, a.status):
	case runtime.HTTPStatusFromCode(codes.Code(a.code)) != a.status:
		return fmt.Sprintf("code %d is status %d", a.code, runtime.HTTPStatusFromCode(codes.Code(a.code)))
	}
	return ""
}

// read reads one JSON object that a schema promises.
func (r *rig) read(s *schema, text []byte) (object, string) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v := object{}
	if err := d.Decode(&v); err != nil {
		return nil, err.Error()
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, "something follows the object"
	}
	return v, r.doc.misfit(s, v, "reply")
}

// forbidden says why a request that succeeded should not have.
func (r *rig) forbidden(s *shot, a *answer) string {
	admin := s.caller != nil && s.caller.email == adminEmail
	switch {
	case !s.genuine && !r.readsNoToken(s.op):
		return "although the token is bad"
	case s.op.access == meshpb.Access_ACCESS_ADMIN && !admin:
		return "although it is for administrators"
	case s.op.access == meshpb.Access_ACCESS_USER && s.caller == nil:
		return "although it is for those who are signed in"
	case s.op.access == meshpb.Access_ACCESS_USER && !admin:
		return r.foreign(s, a)
	}
	return ""
}

// foreign says whose the answer is, if it is not the caller's.
func (r *rig) foreign(s *shot, a *answer) string {
	field := `"user_id"`
	if strings.HasPrefix(s.op.path, "/v1/users/{") {
		field = `"id"`
	}
	for _, m := range regexp.MustCompile(field+`: ?"([^"]+)"`).FindAllSubmatch(a.body, -1) {
		if v := string(m[1]); v != s.caller.id {
			return "with what belongs to " + v
		}
	}
	return ""
}

// readsNoToken reports whether an operation belongs to those that nobody needs a
// token for, nor has any: the keys, and a service without users.
func (r *rig) readsNoToken(op *operation) bool {
	return op.path == "/.well-known/jwks.json" || strings.HasPrefix(op.path, "/v1/greetings")
}

// misfit says why a success is not what the document promises.
func (r *rig) misfit(s *shot, a *answer) string {
	switch {
	case s.op.gets && s.op.sends:
		return r.misfitMessages(s.op, bytes.Split(bytes.TrimSpace(a.body), []byte("\n")))
	case s.op.gets:
		return r.misfitEvents(s.op, a)
	}
	_, why := r.read(s.op.reply(), a.body)
	return why
}

func (r *rig) misfitMessages(op *operation, lines [][]byte) string {
	for _, line := range lines {
		if len(line) == 0 {
			continue
		}
		if _, why := r.read(op.reply(), line); why != "" {
			return why
		}
	}
	return ""
}

// misfitEvents reads server-sent events, the last of which may be cut off.
func (r *rig) misfitEvents(op *operation, a *answer) string {
	all := strings.Split(string(a.body), "\n\n")
	for _, event := range all[:len(all)-1] {
		fields := map[string]string{}
		for line := range strings.SplitSeq(event, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			fields[name] = value
		}
		shape := map[string]*schema{
			"message": op.reply().Properties["result"], "error": {Ref: "#/definitions/google.rpc.Status"}, "end": {Type: "object"},
		}[fields["event"]]
		if _, comment := fields[""]; comment {
			continue
		}
		if shape == nil {
			return fmt.Sprintf("an event %q, not one of %q", event, slices.Sorted(maps.Keys(fields)))
		}
		if _, why := r.read(shape, []byte(fields["data"])); why != "" {
			return why
		}
	}
	return ""
}

// audit checks the stock of the goods, and that nothing in the log is an error.
func (r *rig) audit() error {
	_, _, goods := r.know()
	for _, id := range goods {
		code, text, err := r.send("GET", "/v1/stock/"+id, "", nil)
		if err != nil {
			return err
		}
		var s struct{ Available, Reserved, Sold, Stocked int64 }
		if code != http.StatusOK {
			continue // deleted, or not there yet
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		if s.Available+s.Reserved+s.Sold != s.Stocked || min(s.Available, s.Reserved, s.Sold) < 0 {
			return fmt.Errorf("the stock of %s is %s", id, text)
		}
	}
	for line := range strings.SplitSeq(r.log.take(), "\n") {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") {
			return fmt.Errorf("the shop's log says %s", line)
		}
	}
	return nil
}

// take returns what was logged since it was last taken.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}
