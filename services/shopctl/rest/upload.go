package rest

import (
	"context"
	"io"
	"net/http"

	"google.golang.org/protobuf/proto"
)

// Upload calls an RPC that takes a stream of messages, which body holds as JSON,
// one a line. It takes as long as body does, and is never repeated. Since half a
// stream can't be sent again, the RPC is called with an empty one first: it tells
// whether the caller may, and renews the token if need be. When the server ends
// the call early, Upload returns while body may still be being read.
func (c *Client) Upload(ctx context.Context, method string, body io.Reader, out proto.Message) error {
	r, err := routeOf(method)
	if err != nil {
		return err
	}
	var token string
	_, err = c.authorized(ctx, r, func(t string) ([]byte, error) {
		token = t
		return c.post(ctx, r, token, http.NoBody)
	})
	if err != nil {
		return err
	}
	reply, err := c.post(ctx, r, token, body)
	if err != nil {
		return err
	}
	return r.decode(reply, out)
}

func (c *Client) post(ctx context.Context, r *route, token string, body io.Reader) ([]byte, error) {
	req, err := c.request(ctx, r.verb, r.path, body, token)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	return c.read(ctx, resp)
}
