package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
)

// stream answers with server-sent events; broken, it ends without an "end".
func stream(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, text)
	}
}

const end = "event: end\ndata: {}\n\n"

func change(version, state string) string {
	return "id: " + version + "\nevent: message\ndata: {\"change\": {\"version\":\"" + version + "\", \"state\":\"" + state + "\"}}\n\n"
}

// watched returns the states that a watch gets to see.
func watched(t *testing.T, c *Client) (states []string, err error) {
	t.Helper()
	e := &orderpb.WatchOrderResponse{}
	err = c.Watch(t.Context(), orderpb.OrderService_WatchOrder_FullMethodName, &orderpb.WatchOrderRequest{Id: id}, e, func(raw []byte) error {
		if !strings.HasPrefix(string(raw), `{"change": `) {
			t.Errorf("raw %s", raw)
		}
		states = append(states, e.GetChange().GetState().String())
		return nil
	})
	return states, err
}

func TestBrokenStreamsGoOnWhereTheyWere(t *testing.T) {
	g, c := start(t,
		stream(": open\n\n"+change("1", "PENDING")+change("2", "CONFIRMED")+"id: 3\nevent: message\ndata: {\"half"),
		cutOff,
		say(http.StatusServiceUnavailable, away),
		stream(": keep-alive\n\nevent: error\ndata: "+away+"\n\n"),
		stream("event: of-a-newer-kind\ndata: ?\n\n"+change("3", "COMPLETED")+end),
	)
	states, err := watched(t, c)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(states, []string{"PENDING", "CONFIRMED", "COMPLETED"}); diff != "" {
		t.Error(diff)
	}
	path := "GET /v1/orders/" + id + ":watch  [Bearer first]"
	if diff := cmp.Diff(g.asked, []string{path, path + " [2]", path + " [2]", path + " [2]", path + " [2]"}); diff != "" {
		t.Error(diff)
	}
	// net/http itself repeats a GET that dies on a connection used before.
	if len(g.notices) < 3 || !strings.Contains(g.notices[0], "going on after event 2") {
		t.Errorf("told %q", g.notices)
	}
}

func TestTokensThatExpireInAStreamAreRenewed(t *testing.T) {
	g, c := start(t,
		stream(change("1", "PENDING")+"event: error\ndata: "+expired+"\n\n"),
		stream(change("2", "COMPLETED")+end),
	)
	states, err := watched(t, c)
	if err != nil || len(states) != 2 || !strings.HasSuffix(g.asked[1], "[Bearer second] [1]") {
		t.Errorf("saw %q, asked %q: %v", states, g.asked, err)
	}
}

func TestRefusalsEndAWatch(t *testing.T) {
	const gone = `{"code":5,"message":"there is no such order"}`
	for name, answer := range map[string]http.HandlerFunc{
		"at once": say(http.StatusNotFound, gone),
		"later":   stream(": open\n\nevent: error\ndata: " + gone + "\n\n"),
	} {
		g, c := start(t, answer)
		if _, err := watched(t, c); !IsCode(err, codes.NotFound) || len(g.asked) != 1 {
			t.Errorf("%s: asked %q: %v", name, g.asked, err)
		}
	}
	_, c := start(t, say(http.StatusOK, "{}"))
	if _, err := watched(t, c); err == nil || !strings.Contains(err.Error(), "no event stream") {
		t.Errorf("a plain answer: %v", err)
	}
}

func TestWatchGivesUpOnAServerThatOnlyBreaks(t *testing.T) {
	g, c := start(t, stream(": open\n\n"))
	if _, err := watched(t, c); !Transient(err) || len(g.asked) != maxBreaks {
		t.Errorf("asked %d times: %v", len(g.asked), err)
	}
	if last := g.waits[len(g.waits)-1]; last != longestPause {
		t.Errorf("waited %v at last, want %v", last, longestPause)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	open := make(chan struct{})
	_, c := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		close(open)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-open; cancel() }()
	err := c.Watch(ctx, orderpb.OrderService_WatchOrder_FullMethodName, &orderpb.WatchOrderRequest{Id: id}, &orderpb.WatchOrderResponse{}, nil)
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEventsMayHaveSeveralLinesOfData(t *testing.T) {
	var got []event
	err := events(strings.NewReader("data: a\ndata:b\ndata\n\nid: 1\n\nid:2\nevent:x\ndata: c\n\n"), func(e event) error {
		got = append(got, e)
		return nil
	})
	if !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
	want := []event{{data: []byte("a\nb\n")}, {id: "2", name: "x", data: []byte("c")}}
	if diff := cmp.Diff(got, want, cmp.AllowUnexported(event{})); diff != "" {
		t.Error(diff)
	}
}
