package rest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	// silence is how long a stream may say nothing: the gateway sends a comment
	// every 15 s when there is no event.
	silence = 50 * time.Second
	// maxEvent bounds one line of a stream.
	maxEvent = 4 << 20
	// maxBreaks is how often in a row a stream may break with nothing new in
	// between; with the pauses that is about half a minute.
	maxBreaks    = 10
	longestPause = 5 * time.Second
)

// event is a server-sent event (HTML standard, section 9.2).
type event struct {
	id   string // "" if it has none of its own
	name string
	data []byte
}

// watcher follows one stream, over as many connections as it takes.
type watcher struct {
	*Client
	route  *route
	target string
	out    proto.Message
	each   func(raw []byte) error
	last   string // id of the last event; where the stream goes on
	news   bool   // an event has come over this connection
}

// Watch calls each with every message of a stream of the server, as the server
// wrote it and in out, until the stream ends. When the connection breaks it goes
// on where it was. An error of each ends it.
func (c *Client) Watch(ctx context.Context, method string, in, out proto.Message, each func(raw []byte) error) error {
	r, err := routeOf(method)
	if err != nil {
		return err
	}
	target, _, err := r.encode(in)
	if err != nil {
		return err
	}
	w := &watcher{Client: c, route: r, target: target, out: out, each: each}
	wait := shortestPause
	for breaks := 1; ; breaks++ {
		err := w.connect(ctx)
		if w.news {
			breaks, wait = 1, shortestPause
		}
		if err == nil || !Transient(err) || breaks == maxBreaks || ctx.Err() != nil {
			return err
		}
		wait = max(wait, advised(err))
		w.tell(err, wait)
		if c.Pause(ctx, wait) != nil {
			return err
		}
		wait = min(2*wait, longestPause)
	}
}

func (w *watcher) tell(err error, wait time.Duration) {
	if w.last == "" {
		w.Notice("%v; connecting again in %v", err, wait)
		return
	}
	w.Notice("%v; going on after event %s in %v", err, w.last, wait)
}

// connect follows the stream until it ends (nil) or breaks.
func (w *watcher) connect(ctx context.Context) error {
	w.news = false
	_, err := w.authorized(ctx, w.route, func(token string) ([]byte, error) {
		return nil, w.follow(ctx, token)
	})
	return err
}

var errSilent = errors.New("the stream has gone silent")

func (w *watcher) follow(ctx context.Context, token string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer alive.Stop()
	resp, err := w.open(ctx, token)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = events(&lively{resp.Body, alive}, w.handle)
	switch {
	case errors.Is(err, errEnd):
		return nil
	case errors.Is(context.Cause(ctx), errSilent):
		return &unreachable{errSilent}
	case errors.Is(err, errBroken):
		return &unreachable{err}
	}
	return err
}

func (w *watcher) open(ctx context.Context, token string) (*http.Response, error) {
	req, err := w.request(ctx, w.route.verb, w.target, nil, token)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if w.last != "" {
		req.Header.Set("Last-Event-ID", w.last)
	}
	resp, err := w.HTTP.Do(req)
	if err != nil {
		return nil, w.unreachable(ctx, err)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && media == "text/event-stream" {
		return resp, nil
	}
	defer resp.Body.Close()
	if _, err := w.read(ctx, resp); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s%s is no event stream; is --server right?", w.Server, w.target)
}

// lively puts off the end of a connection whenever something comes over it.
type lively struct {
	io.Reader
	alive *time.Timer
}

func (l *lively) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.alive.Reset(silence)
	}
	return n, err
}

var (
	errEnd    = errors.New("the stream is complete")
	errBroken = errors.New("the stream broke")
)

// handle takes one event; errEnd after the last one.
func (w *watcher) handle(e event) error {
	switch e.name {
	case "end":
		return errEnd
	case "error":
		if p := readProblem(e.data); p != nil {
			return p
		}
		return fmt.Errorf("%w with an error that can't be read", errBroken)
	case "", "message":
		w.news = true
		if e.id != "" {
			w.last = e.id
		}
		if err := w.route.decode(e.data, w.out); err != nil {
			return err
		}
		return w.each(e.data)
	}
	return nil // of a kind that is newer than this program
}

// events calls handle for each event until it returns an error, or returns
// errBroken when the stream is over before that.
func events(from io.Reader, handle func(event) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var e event
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) > 0 {
			e.add(line)
			continue
		}
		if e.data != nil {
			if err := handle(e); err != nil {
				return err
			}
		}
		e = event{}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return errBroken
}

// add takes one line of an event. A comment has an empty field name.
func (e *event) add(line []byte) {
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "id":
		e.id = string(value)
	case "event":
		e.name = string(value)
	case "data":
		if e.data != nil {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, value...)
	}
}
