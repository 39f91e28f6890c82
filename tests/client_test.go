package tests

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/meshmart/meshmart/tests/testbed"
)

const (
	readyEvery = 200 * time.Millisecond // how often the balancer looks
	idleMost   = 500 * time.Millisecond // after which a client does not use a connection again
	callLimit  = 10 * time.Second
)

// balancer has each new connection go to a gateway that is ready, one after the
// other, as a Service of Kubernetes does. Connections that are open stay.
type balancer struct {
	mu    sync.Mutex
	gates []*gate
	next  int
}

type gate struct {
	of        *testbed.Container
	addr, ops string
	ready     bool
}

func newBalancer() *balancer { return &balancer{} }

func (b *balancer) add(ctx context.Context, c *testbed.Container) error {
	url, err := c.URL(ctx)
	if err != nil {
		return err
	}
	ops, err := c.Ops(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gates = append(b.gates, &gate{of: c, addr: strings.TrimPrefix(url, "http://"), ops: ops, ready: true})
	return nil
}

func (b *balancer) remove(c *testbed.Container) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, g := range b.gates {
		if g.of == c {
			b.gates = append(b.gates[:i:i], b.gates[i+1:]...)
			return
		}
	}
}

// watch looks who is ready until ctx is done.
func (b *balancer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(readyEvery)
		b.mu.Lock()
		gates := b.gates
		b.mu.Unlock()
		for _, g := range gates {
			resp, err := http.Get(g.ops + "/readyz")
			if err == nil {
				resp.Body.Close()
			}
			b.mu.Lock()
			g.ready = err == nil && resp.StatusCode == http.StatusOK
			b.mu.Unlock()
		}
	}
}

func (b *balancer) pick() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.gates {
		b.next++
		if g := b.gates[b.next%len(b.gates)]; g.ready {
			return g.addr, nil
		}
	}
	return "", errors.New("no gateway is ready")
}

// client speaks HTTP/1.1 as plainly as can be: it repeats nothing, not even what
// net/http repeats by itself when a server has closed a connection. It keeps
// connections, and uses the one that was idle the longest.
type client struct {
	gates *balancer

	mu   sync.Mutex
	idle []*conn
}

type conn struct {
	net.Conn
	r     *bufio.Reader
	since time.Time // it is idle
}

func newClient(b *balancer) *client { return &client{gates: b} }

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cn := range c.idle {
		cn.Close()
	}
	c.idle = nil
}

func (c *client) connect(ctx context.Context) (*conn, error) {
	addr, err := c.gates.pick()
	if err != nil {
		return nil, err
	}
	cn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: cn, r: bufio.NewReader(cn)}, nil
}

// take returns a connection that was not idle for long, or a new one.
func (c *client) take(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	for len(c.idle) > 0 {
		cn := c.idle[0]
		c.idle = c.idle[1:]
		if time.Since(cn.since) < idleMost {
			c.mu.Unlock()
			return cn, nil
		}
		cn.Close()
	}
	c.mu.Unlock()
	return c.connect(ctx)
}

// put keeps a connection for the next call.
func (c *client) put(cn *conn) {
	cn.since = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, cn)
}

// refused is an answer other than 200.
type refused struct {
	code int
	text string
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// statusOf returns the HTTP status that an error of call tells, 0 for none.
func statusOf(err error) int {
	if r := (*refused)(nil); errors.As(err, &r) {
		return r.code
	}
	return 0
}

// call makes one request. An answer other than 200 is a *refused.
func (c *client) call(ctx context.Context, method, path, token string, body any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	req, err := request(ctx, method, path, token, body)
	if err != nil {
		return nil, err
	}
	cn, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	code, text, stays, err := cn.exchange(ctx, req)
	if err == nil && stays {
		c.put(cn)
	} else {
		cn.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s at %s: %w", method, path, cn.RemoteAddr(), err)
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("%s %s at %s: %w", method, path, cn.RemoteAddr(), &refused{code, string(text)})
	}
	reply := map[string]any{}
	return reply, json.Unmarshal(text, &reply)
}

func (cn *conn) exchange(ctx context.Context, req *http.Request) (code int, text []byte, stays bool, err error) {
	deadline, _ := ctx.Deadline()
	if err := cn.SetDeadline(deadline); err != nil {
		return 0, nil, false, err
	}
	if err := req.Write(cn); err != nil {
		return 0, nil, false, err
	}
	resp, err := http.ReadResponse(cn.r, req)
	if err != nil {
		return 0, nil, false, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, !resp.Close, err
}

func request(ctx context.Context, method, path, token string, body any) (*http.Request, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://shop"+path, in)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}
