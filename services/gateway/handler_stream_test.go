package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

// event is one server-sent event.
type event struct{ ID, Type, Data string }

// read reads the next event; comments are events of type ":".
func read(t *testing.T, r *bufio.Reader) event {
	t.Helper()
	var e event
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ends with %v after %+v", err, e)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.ID = value
		case "event":
			e.Type = value
		case "data":
			e.Data = value
		case "":
			if value != "" {
				e = event{Type: ":", Data: value}
			}
			if e != (event{}) {
				return e
			}
		}
	}
}

const watch = "/v1/orders/" + anID + ":watch"

func (s *site) events(path string, headers ...string) *bufio.Reader {
	s.t.Helper()
	res := s.send("GET", path, "", headers...)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Accel-Buffering") != "no" {
		b, _ := io.ReadAll(res.Body)
		s.t.Fatalf("got %d %v %s", res.StatusCode, res.Header, b)
	}
	return bufio.NewReader(res.Body)
}

func TestEventsComeAtOnceAndEnd(t *testing.T) {
	s := start(t, nil)
	s.changes <- change(1, orderpb.Order_PENDING)
	r := s.events(watch)
	for v, state := range []string{"PENDING", "CONFIRMED", "COMPLETED"} {
		e := read(t, r)
		var data struct {
			Change struct{ State, Version string }
		}
		if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
			t.Fatalf("%q: %v", e.Data, err)
		}
		want := fmt.Sprint(v + 1)
		if e.ID != want || e.Type != "message" || data.Change.State != state || data.Change.Version != want {
			t.Errorf("got %+v, want %s", e, state)
		}
		if v < 2 {
			s.changes <- change(int64(v+2), orderpb.Order_State(v+2))
		}
	}
	close(s.changes)
	if e := read(t, r); e != (event{Type: "end", Data: "{}"}) {
		t.Errorf("got %+v, want the end", e)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("got %v after the end", err)
	}
}

func TestEventsResumeAfterTheLastOne(t *testing.T) {
	s := start(t, nil)
	close(s.changes)
	read(t, s.events(watch+"?after_version=1", "Last-Event-ID: 2"))
	asked, _ := s.heard()
	if got := asked.(*orderpb.WatchOrderRequest); got.GetAfterVersion() != 2 || got.GetId() != anID {
		t.Errorf("got %v", got)
	}
	r := s.events("/v1/greetings:list?name=Ada&count=3&start=5", "Last-Event-ID: 7")
	if e := read(t, r); e.ID != "8" || !strings.Contains(e.Data, `"7"`) {
		t.Errorf("got %+v, want greeting 7", e)
	}
	if e := read(t, r); e.Type != "end" {
		t.Errorf("got %+v, want the end", e)
	}
	if e := read(t, s.events("/v1/greetings:list?name=Ada&count=3&start=5", "Last-Event-ID: 8")); e.Type != "end" {
		t.Errorf("got %+v, want the end", e)
	}
	for _, id := range []string{"x", "4", "9"} {
		if got := s.do("GET", "/v1/greetings:list?name=Ada&count=3&start=5", "", "Last-Event-ID: "+id); got.StatusCode != 400 || got.fields()[0] != "Last-Event-ID" {
			t.Errorf("resume at %s: got %d %s", id, got.StatusCode, got.body)
		}
	}
	in := &productpb.WatchProductsRequest{}
	if err := resume(in, "abc"); err != nil || in.GetResumeToken() != "abc" {
		t.Errorf("got %v, %v", in, err)
	}
}

func TestEventStreamIsRefusedLikeAnyRequest(t *testing.T) {
	s := start(t, nil)
	s.refuse(fault.NotFound("no such order"))
	if r := s.do("GET", watch, ""); r.StatusCode != 404 || r.status.Message != "no such order" {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
}

func TestEventStreamThatBreaksSaysSo(t *testing.T) {
	s := start(t, nil)
	s.changes <- change(1, orderpb.Order_PENDING)
	r := s.events(watch)
	read(t, r)
	s.stop() // drains: the stream must end by itself
	e := read(t, r)
	var st struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal([]byte(e.Data), &st); err != nil || e.Type != "error" || st.Code != 14 {
		t.Errorf("got %+v, want an error with code 14", e)
	}
}

func TestIdleEventStreamStaysAlive(t *testing.T) {
	s := start(t, nil)
	// Accepted although nothing has come yet; what comes is seen at once.
	r := s.events(watch)
	if e := read(t, r); e != (event{Type: ":", Data: "open"}) {
		t.Errorf("got %+v, want the comment open", e)
	}
	s.changes <- change(1, orderpb.Order_PENDING)
	if e := read(t, r); e.ID != "1" {
		t.Errorf("got %+v", e)
	}
}

func TestSilenceIsBrokenByHeartbeats(t *testing.T) {
	rec := httptest.NewRecorder()
	a := &api{heartbeat: time.Millisecond}
	ended := make(chan error)
	time.AfterFunc(20*time.Millisecond, func() { ended <- io.EOF })
	if err := a.relay(t.Context(), &events{w: rec, rc: http.NewResponseController(rec)}, nil, ended); err != nil {
		t.Fatal(err)
	}
	if got := rec.Body.String(); !strings.HasPrefix(got, ": keep-alive\n\n: keep-alive\n\n") || !strings.HasSuffix(got, "event: end\ndata: {}\n\n") {
		t.Errorf("got %q", got)
	}
}

func TestClientStreamIsCountedByOneAnswer(t *testing.T) {
	s := start(t, nil)
	line := `{"product": {"sku": "A-1"}, "initial_stock": 3}` + "\n"
	for _, ct := range []string{"application/json", "application/x-ndjson"} {
		r := s.do("POST", "/v1/products:import", strings.Repeat(line, 1000), "Content-Type: "+ct)
		var got productpb.ImportProductsResponse
		if r.StatusCode != 200 || !strings.Contains(strings.ReplaceAll(r.body, " ", ""), `"received":"1000"`) {
			t.Errorf("got %d %s%v", r.StatusCode, r.body, &got)
		}
	}
}

func TestBadMessageOfAStreamIsRefusedByName(t *testing.T) {
	s := start(t, map[string]string{"HTTP_MAX_BODY": "1000"})
	const good = `{"product": {"sku": "A-1"}}` + "\n"
	for _, tt := range []struct {
		body        string
		code        int
		field, text string
	}{
		{good + `{"product": {"skew": "A-1"}}`, 400, "[1].product.skew", "no such field"},
		{good + good + `{"product": `, 400, "", "not complete"},
		{good + `}`, 400, "", "message 2 is not valid JSON"},
		{strings.Repeat(good, 100) + `{"product": {"name": "` + strings.Repeat("x", 2000) + `"}}`, 413, "", "larger than 1000"},
	} {
		r := s.do("POST", "/v1/products:import", tt.body, "Content-Type: application/json")
		if r.StatusCode != tt.code || strings.Join(r.fields(), " ") != tt.field || !strings.Contains(r.status.Message, tt.text) {
			t.Errorf("%.40q: got %d %s", tt.body, r.StatusCode, r.body)
		}
	}
}

// half is a stream to a service that only says whether it was ended.
type half struct {
	grpc.ClientStream
	ended bool
}

func (h *half) SendMsg(any) error { return nil }
func (h *half) CloseSend() error  { h.ended = true; return nil }

// The end of a stream that is given up must not reach the service, which would
// count what came before for everything.
func TestBadMessageOfAStreamIsNeverItsEnd(t *testing.T) {
	routes, err := newRoutes(contracts())
	if err != nil {
		t.Fatal(err)
	}
	rt, _, _ := routes.find("POST", "/v1/products:import")
	for body, want := range map[string]bool{`{} {}`: true, `{} null`: false, `{} {`: false} {
		stream, given := &half{}, error(nil)
		l := &lines{api: &api{maxBody: 100}, route: rt, stream: stream, cancel: func(err error) { given = err }, sent: make(chan struct{})}
		l.send(strings.NewReader(body))
		if stream.ended != want || (given == nil) != want || (l.bad == nil) != want {
			t.Errorf("%s: ended %v, given up with %v", body, stream.ended, given)
		}
	}
}

func TestClientStreamTellsWhyTheServiceEndedIt(t *testing.T) {
	s := start(t, nil)
	s.refuse(fault.Denied("ADMIN_REQUIRED", "this is for administrators"))
	r := s.do("POST", "/v1/products:import", strings.Repeat(`{"initial_stock": 1}`+"\n", 10_000), "Content-Type: application/json")
	if r.StatusCode != 403 || r.status.Message != "this is for administrators" {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
}

// chat begins a conversation: what is written to w is sent.
func chat(s *site) (w *io.PipeWriter, answers *json.Decoder) {
	s.t.Helper()
	body, w := io.Pipe()
	go fmt.Fprintln(w, `{"name":"Ada"}`)
	res := s.sendFrom("POST", "/v1/greetings:chat", body, "Content-Type: application/json")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-ndjson" {
		s.t.Fatalf("got %d %v", res.StatusCode, res.Header)
	}
	return w, json.NewDecoder(res.Body)
}

type turn struct {
	Result struct{ Greeting struct{ Message string } }
	Error  struct {
		Code    int
		Message string
	}
}

func next(t *testing.T, d *json.Decoder) turn {
	t.Helper()
	var l turn
	if err := d.Decode(&l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConversationIsAnsweredLineByLine(t *testing.T) {
	s := start(t, nil)
	w, answers := chat(s)
	for _, name := range []string{"Ada", "Bo", "Cy"} {
		if name != "Ada" { // who is there already
			fmt.Fprintf(w, `{"name":%q}`, name)
		}
		if got := next(t, answers).Result.Greeting.Message; got != "Hello, "+name+"!" {
			t.Errorf("got %q for %s", got, name)
		}
	}
	w.Close()
	if err := answers.Decode(&turn{}); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

func TestConversationThatTurnsBadEndsWithAnError(t *testing.T) {
	s := start(t, nil)
	w, answers := chat(s)
	next(t, answers)
	fmt.Fprintln(w, `{"name":"Bo"} {"name":7}`)
	if got := next(t, answers).Result.Greeting.Message; got != "Hello, Bo!" {
		t.Errorf("got %q, want what came before", got)
	}
	if got := next(t, answers).Error; got.Code != 3 || !strings.Contains(got.Message, "[2].name") {
		t.Errorf("got %+v", got)
	}
	w.Close()
}

func TestConversationThatBeginsBadIsRefused(t *testing.T) {
	s := start(t, nil)
	r := s.do("POST", "/v1/greetings:chat", `{"nam":"Ada"}`, "Content-Type: application/json")
	if r.StatusCode != 400 || !cmp.Equal(r.fields(), []string{"[0].nam"}) {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
	if r := s.do("POST", "/v1/greetings:chat", "", "Content-Type: application/json"); r.StatusCode != 200 || r.body != "" {
		t.Errorf("nothing said: got %d %q", r.StatusCode, r.body)
	}
}

func TestConversationEndsAtDrain(t *testing.T) {
	s := start(t, nil)
	w, answers := chat(s)
	defer w.Close()
	next(t, answers)
	s.stop()
	if got := next(t, answers).Error; got.Code != 14 {
		t.Errorf("got %+v, want code 14", got)
	}
}

// A stream that is refused before it was read leaves no connection behind that
// the client would use again while the server hangs up.
func TestRefusedStreamDoesNotHurtTheNextRequest(t *testing.T) {
	s := start(t, nil)
	for _, path := range []string{"/v1/products:import", "/v1/greetings:chat"} {
		for range 20 {
			if r := s.do("POST", path, `{} null`+strings.Repeat(" ", 1<<20)); r.StatusCode == 500 {
				t.Fatalf("got %d %s", r.StatusCode, r.body)
			}
			if r := s.do("POST", "/v1/orders", `{}`); r.StatusCode != 200 {
				t.Fatalf("after %s: got %d %s", path, r.StatusCode, r.body)
			}
		}
	}
}
