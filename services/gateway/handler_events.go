package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	greeterpb "github.com/meshmart/meshmart/proto/greeter/v1"
	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/internal/fault"
)

const (
	// eventsDecide is how long a stream may stay silent before it is taken for
	// accepted: until then a refusal is still an ordinary error.
	eventsDecide = 500 * time.Millisecond
	// eventsWrite is how long a client may take to take an event.
	eventsWrite = 30 * time.Second
)

// position returns where a client goes on after a message; see resume.
func position(m proto.Message) string {
	switch m := m.(type) {
	case *orderpb.WatchOrderResponse:
		return strconv.FormatInt(m.GetChange().GetVersion(), 10)
	case *productpb.WatchProductsResponse:
		return m.GetResumeToken()
	case *greeterpb.ListGreetingsResponse:
		return strconv.FormatInt(m.GetGreeting().GetNumber()+1, 10)
	}
	return ""
}

// errEnded says that the client has had everything.
var errEnded = errors.New("nothing left to send")

// resume makes a request go on at a position, the value of Last-Event-ID.
func resume(m proto.Message, position string) error {
	n, err := strconv.ParseInt(position, 10, 64)
	switch m := m.(type) {
	case *productpb.WatchProductsRequest:
		m.ResumeToken = position
		return nil
	case *orderpb.WatchOrderRequest:
		m.AfterVersion = n
	case *greeterpb.ListGreetingsRequest:
		if err == nil {
			return resumeGreetings(m, n)
		}
	}
	if err != nil {
		return fault.Invalid("Last-Event-ID", "is not the id of an event of this stream")
	}
	return nil
}

func resumeGreetings(m *greeterpb.ListGreetingsRequest, next int64) error {
	start, count := max(m.Start, 1), int64(m.Count)
	if count == 0 {
		count = 10 // as the contract says
	}
	left := count - (next - start)
	if next < start || left < 0 {
		return fault.Invalid("Last-Event-ID", "is not the id of an event of this stream")
	}
	if left == 0 {
		return errEnded
	}
	m.Start, m.Count = next, int32(left)
	return nil
}

// serveEvents carries a stream of the server as server-sent events (HTML
// standard, section 9.2): each message an event with the place to resume at as
// its id, then "end", or "error" with the status. Until the first one it can
// still be refused like any other request.
func (a *api) serveEvents(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	var err error
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		err = resume(in, id)
	}
	ev := &events{w: w, rc: http.NewResponseController(w)}
	if errors.Is(err, errEnded) {
		return ev.send("", "end", []byte("{}"))
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	messages, ended := make(chan proto.Message), make(chan error, 1)
	go func() { ended <- a.pump(ctx, r, rt, in, messages); close(ended) }()
	err = a.relay(ctx, ev, messages, ended)
	cancel()
	for range ended { // until the stream is closed
	}
	if err == nil || !ev.begun {
		return err
	}
	st := visible(err)
	note(r.Context(), st, err)
	_ = ev.send("", "error", statusJSON(st)) // the client is gone: nobody to tell
	return nil
}

// pump reads the stream behind a route until it ends, which is io.EOF if it
// ends well, and waits for each message to be taken.
func (a *api) pump(ctx context.Context, r *http.Request, rt *route, in proto.Message, to chan<- proto.Message) error {
	stream, err := a.open(ctx, r, rt)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) { // io.EOF: the reason comes below
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		m := rt.out.New().Interface()
		if err := stream.RecvMsg(m); err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// relay writes events until the stream ends, the client leaves or the gateway
// drains.
func (a *api) relay(ctx context.Context, ev *events, messages <-chan proto.Message, ended <-chan error) error {
	decide := time.NewTimer(eventsDecide)
	defer decide.Stop()
	beat := time.NewTicker(a.heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case m := <-messages:
			err = ev.message(m)
			beat.Reset(a.heartbeat)
		case err = <-ended:
			if errors.Is(err, io.EOF) {
				return ev.send("", "end", []byte("{}"))
			}
		case <-decide.C:
			err = ev.write(": open\n\n")
		case <-beat.C:
			err = ev.write(": keep-alive\n\n")
		case <-a.draining:
			err = restarting()
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// events writes server-sent events.
type events struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

func (e *events) message(m proto.Message) error {
	text, err := output().Marshal(m)
	if err != nil {
		return fmt.Errorf("marshal an event: %w", err)
	}
	return e.send(position(m), "message", text)
}

// send writes one event; data is JSON, which has no line breaks.
func (e *events) send(id, event string, data []byte) error {
	var b strings.Builder
	if id != "" && !strings.ContainsAny(id, "\r\n\x00") {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", event, data)
	return e.write(b.String())
}

func (e *events) write(text string) error {
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("X-Accel-Buffering", "no") // nginx and others would hold events back
	}
	_ = e.rc.SetWriteDeadline(time.Now().Add(eventsWrite)) // not every writer can
	if _, err := io.WriteString(e.w, text); err != nil {
		return err
	}
	return e.rc.Flush()
}
