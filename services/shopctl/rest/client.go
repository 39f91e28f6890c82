// Package rest calls the shop's gateway as the contracts say: which path and
// which body stand for an RPC, whether it wants a token, and whether it may be
// repeated.
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

const (
	// maxReply bounds an answer; the longest page of products is far below it.
	maxReply = 64 << 20
	// slack is what a try may take beyond the call's own timeout in the contract.
	slack = 2 * time.Second
	// shortestPause is the first one between tries; each next one is twice as long.
	shortestPause = 200 * time.Millisecond
)

// Client calls the shop. All its fields must be set.
type Client struct {
	Server  string // its address, with no slash at the end
	Agent   string // the User-Agent
	HTTP    *http.Client
	Session Session
	Timeout time.Duration                              // of a call with all its tries
	Notice  func(format string, args ...any)           // tells people that it takes longer, and why
	Pause   func(context.Context, time.Duration) error // waits between tries
}

// Session is who calls.
type Session interface {
	// Token returns the access token to call with.
	Token(ctx context.Context) (string, error)
	// Renew returns one in place of a token that the server does not accept.
	Renew(ctx context.Context, refused string) (string, error)
}

// NewHTTP returns what a Client makes its requests with.
func NewHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     time.Minute,
		},
		// Following one would hand passwords and tokens to another address.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Call makes a unary call: out gets the answer, which is returned as the server
// wrote it, too. A call that may be repeated is, while the server is away. For
// that an empty request_id is filled in, in the caller's message. An error is a
// *Problem if the shop answered.
func (c *Client) Call(ctx context.Context, method string, in, out proto.Message) ([]byte, error) {
	r, err := routeOf(method)
	if err != nil {
		return nil, err
	}
	if fd := r.RequestID; fd != nil && in.ProtoReflect().Get(fd).String() == "" {
		in.ProtoReflect().Set(fd, protoreflect.ValueOfString(uuid.NewString()))
	}
	target, body, err := r.encode(in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	reply, err := c.repeat(ctx, r, func(ctx context.Context) ([]byte, error) {
		return c.authorized(ctx, r, func(token string) ([]byte, error) {
			return c.exchange(ctx, r.verb, target, body, token)
		})
	})
	if err != nil {
		return nil, err
	}
	return reply, r.decode(reply, out)
}

// tries is how often a call is made at most: a person waits for an answer, but
// a change that may have been made must not be left in doubt too soon.
func (r *route) tries() int {
	switch {
	case !r.Idempotent:
		return 1
	case r.ReadOnly:
		return 3
	}
	return 6
}

// repeat tries until it succeeds or there is no point in trying again.
func (c *Client) repeat(ctx context.Context, r *route, try func(context.Context) ([]byte, error)) ([]byte, error) {
	wait := shortestPause
	for n := 1; ; n++ {
		tctx, cancel := context.WithTimeout(ctx, r.Timeout+slack)
		reply, err := try(tctx)
		cancel()
		// A shop that is not there at all is what a reader wants to know at once.
		away := r.ReadOnly && errors.Is(err, syscall.ECONNREFUSED)
		if err == nil || !Transient(err) || away || n == r.tries() || ctx.Err() != nil {
			return reply, err
		}
		wait = max(wait, advised(err))
		if r.ReadOnly {
			c.Notice("%v; trying again in %v", err, wait)
		} else {
			c.Notice("%v; the same request again in %v: it takes effect once", err, wait)
		}
		if c.Pause(ctx, wait) != nil {
			return nil, err
		}
		wait *= 2
	}
}

// authorized calls with the caller's token if the contract asks for one. A
// token that is refused is renewed once: it may have just expired.
func (c *Client) authorized(ctx context.Context, r *route, call func(token string) ([]byte, error)) ([]byte, error) {
	if r.Access == meshpb.Access_ACCESS_PUBLIC {
		return call("")
	}
	token, err := c.Session.Token(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := call(token)
	if !IsCode(err, codes.Unauthenticated) {
		return reply, err
	}
	if token, err = c.Session.Renew(ctx, token); err != nil {
		return nil, err
	}
	return call(token)
}

// Get reads what is at a path of the gateway that belongs to no contract.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.exchange(ctx, http.MethodGet, path, nil, "")
}

// exchange makes one request and reads the whole answer.
func (c *Client) exchange(ctx context.Context, verb, target string, body []byte, token string) ([]byte, error) {
	req, err := c.request(ctx, verb, target, bytes.NewReader(body), token)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	return c.read(ctx, resp)
}

// read returns the body of an answer, or the problem that it tells.
func (c *Client) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, c.unreachable(ctx, err)
	case len(reply) > maxReply:
		return nil, fmt.Errorf("the server's answer is longer than %d bytes", maxReply)
	case resp.StatusCode != http.StatusOK:
		return nil, problemOf(resp.StatusCode, resp.Header, reply)
	}
	return reply, nil
}

func (c *Client) request(ctx context.Context, verb, target string, body io.Reader, token string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, verb, c.Server+target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", verb, target, err)
	}
	req.Header.Set("User-Agent", c.Agent)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// unreachable makes an error of net/http one for people: its text repeats the
// address, and says "context deadline exceeded".
func (c *Client) unreachable(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = errTooLate
	}
	return &unreachable{fmt.Errorf("no answer from %s: %w", c.Server, err)}
}

var errTooLate = errors.New("it took too long")
