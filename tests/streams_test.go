package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/google/go-cmp/cmp"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
)

// history is what a watcher knows of an order.
type history struct {
	order   string
	version int64 // the last seen
	state   string
	ended   bool // the stream said that no more comes
}

// next takes a version, which must be the one after the last.
func (h *history) next(version int64, state string) error {
	if version != h.version+1 {
		return fmt.Errorf("version %d came after version %d", version, h.version)
	}
	h.version, h.state = version, state
	return nil
}

// followREST reads one event stream of an order to its end, clean or for now.
func (w *watchers) followREST(ctx context.Context, h *history) error {
	last := ""
	if h.version > 0 {
		last = strconv.FormatInt(h.version, 10)
	}
	path := "/v1/orders/" + h.order + ":watch"
	ended, err := w.load.client.events(ctx, path, w.load.shop.customer, last, func(e event) error {
		var m struct{ Change struct{ State string } }
		version, err := strconv.ParseInt(e.id, 10, 64)
		if err := errors.Join(err, json.Unmarshal(e.data, &m)); err != nil {
			return err
		}
		return h.next(version, m.Change.State)
	})
	h.ended = ended
	return err
}

// followGRPC is followREST at a replica of the order service itself.
func (w *watchers) followGRPC(ctx context.Context, h *history) error {
	w.mu.Lock()
	addr := w.order
	w.mu.Unlock()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.load.shop.customer)
	stream, err := orderpb.NewOrderServiceClient(cc).WatchOrder(ctx, &orderpb.WatchOrderRequest{Id: h.order, AfterVersion: h.version})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			h.ended = true
			return nil
		case err != nil && restarts(status.Convert(err)):
			return nil
		case err != nil:
			return err
		}
		if err := h.next(m.GetChange().GetVersion(), strings.TrimPrefix(m.GetChange().GetState().String(), "STATE_")); err != nil {
			return err
		}
	}
}

// restarts reports whether a server has said that it stops, which no broken
// connection does: that has no details.
func restarts(st *status.Status) bool {
	for _, d := range st.Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return st.Code() == codes.Unavailable
		}
	}
	return false
}

// event is a server-sent event.
type event struct {
	id, name string
	data     []byte
}

// events reads a stream of server-sent events from a gateway that is ready. It
// reports whether the stream came to its end; false and no error is a server
// that stops and says so. Everything else is an error.
func (c *client) events(ctx context.Context, path, token, last string, fn func(event) error) (ended bool, err error) {
	req, err := request(ctx, http.MethodGet, path, token, nil)
	if err != nil {
		return false, err
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	cn, err := c.connect(ctx)
	if err != nil {
		return false, err
	}
	defer cn.Close()
	defer context.AfterFunc(ctx, func() { cn.Close() })()
	if err := req.Write(cn); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(cn.r, req)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return false, fmt.Errorf("%s: %w", path, &refused{resp.StatusCode, string(text)})
	}
	return readEvents(resp.Body, fn)
}

func readEvents(r io.Reader, fn func(event) error) (ended bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var e event
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = []byte(value)
		}
		if lines.Text() != "" || e.name == "" {
			continue
		}
		switch e.name {
		case "end":
			return true, nil
		case "error":
			return false, stops(e.data)
		}
		if err := fn(e); err != nil {
			return false, err
		}
		e = event{}
	}
	return false, fmt.Errorf("cut off in the middle: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

// stops returns nil if an event of the name "error" says that the server stops.
func stops(data []byte) error {
	var st struct {
		Code    int
		Details []struct {
			Type string `json:"@type"`
		}
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return err
	}
	for _, d := range st.Details {
		if st.Code == int(codes.Unavailable) && strings.HasSuffix(d.Type, "RetryInfo") {
			return nil
		}
	}
	return fmt.Errorf("the stream ended with %s", data)
}

// changeCatalog changes a product again and again, and does not wait for anybody
// to see it.
func (w *watchers) changeCatalog(ctx context.Context) {
	path := "/v1/products/" + w.load.shop.products[0]
	for !w.stopped() {
		text := time.Now().Format(time.RFC3339Nano)
		err := w.load.counted(func() error {
			_, err := w.load.client.call(ctx, http.MethodPatch, path, w.load.shop.admin, map[string]any{"description": text})
			return err
		})
		w.mu.Lock()
		if err == nil {
			w.sent = append(w.sent, text)
		}
		w.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
}

// followCatalog sees every change since the first that it saw once, in order.
func (w *watchers) followCatalog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*hang)
	defer cancel()
	go func() { // the stream has no end of its own
		<-w.done
		w.waitSeen(ctx)
		cancel()
	}()
	for last := ""; ctx.Err() == nil; {
		_, err := w.load.client.events(ctx, "/v1/products:watch", "", last, func(e event) error {
			var m struct{ Product struct{ Description string } }
			last = e.id
			w.mu.Lock()
			defer w.mu.Unlock()
			err := json.Unmarshal(e.data, &m)
			w.seen = append(w.seen, m.Product.Description)
			return err
		})
		switch {
		case ctx.Err() != nil:
		case err != nil:
			w.t.Errorf("watch the catalog: %v", err)
			time.Sleep(readyEvery)
		default:
			w.note(&w.resumed)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	want := w.sent
	for len(want) > 0 && len(w.seen) > 0 && want[0] != w.seen[0] {
		want = want[1:]
	}
	if diff := cmp.Diff(want, w.seen); diff != "" || len(want) == 0 {
		w.t.Errorf("changes of the catalog that were made (-) and seen (+), of %d:\n%s", len(w.sent), diff)
	}
}

// waitSeen returns when the last change was seen, or after a while: then
// followCatalog tells what is missing.
func (w *watchers) waitSeen(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = until(ctx, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.sent) > 0 && (len(w.seen) == 0 || w.seen[len(w.seen)-1] != w.sent[len(w.sent)-1]) {
			return errors.New("not all was seen")
		}
		return nil
	})
}
