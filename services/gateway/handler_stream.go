package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// open begins the gRPC stream behind a route; it ends with ctx at the latest.
func (a *api) open(ctx context.Context, r *http.Request, rt *route) (grpc.ClientStream, error) {
	return a.conns[rt.host].NewStream(outgoing(ctx, r), &grpc.StreamDesc{
		StreamName:    string(rt.rpc.Name()),
		ServerStreams: rt.rpc.IsStreamingServer(),
		ClientStreams: rt.rpc.IsStreamingClient(),
	}, rt.full)
}

func restarting() error {
	return fault.Unavailable(time.Second, "the server is restarting: connect again and go on where you are")
}

// serveLines carries a stream of the client, one JSON object after the other
// (newlines between them are usual and not needed). The answer is one object
// or, if the server streams too, a line {"result": ...} for each message and, if
// it ends badly, a last one {"error": status}.
func (a *api) serveLines(w http.ResponseWriter, r *http.Request, rt *route) error {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/1 would read all of the body before the first answer
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stream, err := a.open(ctx, r, rt)
	if err != nil {
		return err
	}
	l := &lines{api: a, route: rt, stream: stream, cancel: cancel, w: w, rc: rc, sent: make(chan struct{})}
	go l.send(r.Body)
	go l.endAtDrain(ctx)
	err = l.receive()
	switch cause := context.Cause(ctx); {
	case r.Context().Err() != nil:
		err = r.Context().Err()
	case cause != nil:
		err = cause
	}
	cancel(nil)
	l.stopSender()
	if err == nil {
		err = l.bad
	}
	if err != nil && !l.begun {
		w.Header().Set("Connection", "close") // the body may not have been read to its end; see write
	}
	return l.finish(err)
}

// lines is one stream of JSON objects under way. The sender and the receiver
// are a goroutine each; bad belongs to the sender until it has ended.
type lines struct {
	api    *api
	route  *route
	stream grpc.ClientStream
	cancel context.CancelCauseFunc
	w      http.ResponseWriter
	rc     *http.ResponseController
	begun  bool          // something has been written
	bad    error         // what is wrong with the client's stream
	sent   chan struct{} // closed when the sender has ended
}

// send passes on what the client sends. When the client's stream is bad, a
// single answer would count what came before for everything, and the call is
// given up; a stream of answers may still end, and the fault is told after it.
func (l *lines) send(body io.Reader) {
	defer close(l.sent)
	limited := &allowance{r: body, size: l.api.maxBody}
	dec := json.NewDecoder(limited)
	for n := 1; ; n++ {
		limited.left = limited.size
		m, err := l.next(dec, n)
		if err == nil {
			err = l.stream.SendMsg(m)
			if err == nil {
				continue
			}
			return // the receiver learns why
		}
		if !errors.Is(err, io.EOF) {
			l.bad = err
			if !l.route.rpc.IsStreamingServer() {
				l.cancel(err)
				return // an end would overtake it, and be answered
			}
		}
		_ = l.stream.CloseSend() // never fails
		return
	}
}

// senderGrace is how long a sender may take to notice that the stream has ended.
const senderGrace = 100 * time.Millisecond

// stopSender returns when the sender has ended: the body must not be read any
// more once the request is served. A sender that waits for a client who leaves
// the stream open is woken by a deadline, which costs the connection. For one
// that is about to end it must not be set: after the end of the body net/http
// reads on, and would take the deadline for the end of the client.
func (l *lines) stopSender() {
	select {
	case <-l.sent:
		return
	case <-time.After(senderGrace):
	}
	if !l.begun {
		l.w.Header().Set("Connection", "close")
	}
	_ = l.rc.SetReadDeadline(time.Unix(1, 0)) // not every writer can
	<-l.sent
}

// next reads the nth message; io.EOF after the last.
func (l *lines) next(dec *json.Decoder, n int) (proto.Message, error) {
	m := l.route.in.New().Interface()
	var text json.RawMessage
	var syntax *json.SyntaxError
	switch err := dec.Decode(&text); {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.As(err, &syntax):
		return nil, fault.Malformed("message %d is not valid JSON: %v", n, err)
	case err != nil:
		return nil, l.api.unreadable(err)
	}
	return m, jsonBody{text, fmt.Sprintf("[%d]", n-1)}.decode(m)
}

// receive passes on what the service answers, until it ends.
func (l *lines) receive() error {
	for {
		m := l.route.out.New().Interface()
		if err := l.stream.RecvMsg(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		text, err := output().Marshal(m)
		if err != nil {
			return fmt.Errorf("marshal %s: %w", l.route.rpc.Output().FullName(), err)
		}
		if !l.route.rpc.IsStreamingServer() {
			return l.write("application/json", text)
		}
		if err := l.write("application/x-ndjson", []byte(`{"result":`), text, []byte("}\n")); err != nil {
			return err
		}
	}
}

func (l *lines) write(contentType string, parts ...[]byte) error {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", contentType)
		l.w.Header().Set("X-Accel-Buffering", "no")
		if l.route.rpc.IsStreamingServer() {
			// Should it end before its body does, the server hangs up, and a client
			// that was not told would lose its next request by it.
			l.w.Header().Set("Connection", "close")
		}
	}
	if _, err := l.w.Write(bytes.Join(parts, nil)); err != nil {
		return err
	}
	return l.rc.Flush()
}

func (l *lines) endAtDrain(ctx context.Context) {
	select {
	case <-l.api.draining:
		l.cancel(restarting())
	case <-ctx.Done():
	}
}

// finish tells how the stream ended: by the status of the answer, as long as
// nothing has been written.
func (l *lines) finish(err error) error {
	switch {
	case err == nil && !l.begun:
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		return nil
	case err == nil || !l.begun:
		return err
	case !l.route.rpc.IsStreamingServer(): // it was answered before its end, and that stands
		return nil
	}
	st := visible(err)
	note(l.stream.Context(), st, err)
	_ = l.write("", []byte(`{"error":`), statusJSON(st), []byte("}\n")) // the client is gone: nobody to tell
	return nil
}

// allowance bounds one message of a stream that may itself be endless.
type allowance struct {
	r          io.Reader
	size, left int64
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, &http.MaxBytesError{Limit: a.size}
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	return n, err
}
