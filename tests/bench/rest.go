package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/meshmart/meshmart/tests/bench/drive"
)

// overREST makes the maker of a call over REST. Each client has a connection of
// its own and speaks HTTP/1.1 on it by hand: what is measured is the gateway, and
// net/http's client costs as much as a call.
func overREST(call func(t *target, c *restConn) error) maker {
	return func(t *target, clients int) (drive.Call, func(), error) {
		conns := make([]*restConn, 0, clients)
		shut := func() {
			for _, c := range conns {
				_ = c.conn.Close()
			}
		}
		for range clients {
			c, err := t.dialREST()
			if err != nil {
				shut()
				return nil, nil, err
			}
			conns = append(conns, c)
		}
		return func(_ context.Context, client int) error { return call(t, conns[client]) }, shut, nil
	}
}

var getREST = overREST(func(t *target, c *restConn) error {
	id := t.product()
	body, err := c.do("GET", "/v1/products/"+id, nil)
	if err == nil && !bytes.Contains(body, []byte(id)) {
		err = errors.New("another product than was asked for")
	}
	return err
})

var createOrderREST = overREST(func(t *target, c *restConn) error {
	body, err := c.do("POST", "/v1/orders", fmt.Appendf(nil, `{"request_id":%q,"payment_token":"tok_visa","items":[{"product_id":%q,"quantity":1}]}`,
		uuid.NewString(), t.product()))
	if err == nil && !bytes.Contains(body, []byte(`"CONFIRMED"`)) && !bytes.Contains(body, []byte(`"COMPLETED"`)) {
		err = fmt.Errorf("an order is %.200s", body)
	}
	return err
})

// restConn is a connection for one request at a time, of one customer.
type restConn struct {
	conn    net.Conn
	in      *bufio.Reader
	out     bytes.Buffer
	headers string // of every request
}

func (t *target) dialREST() (*restConn, error) {
	host, ok := strings.CutPrefix(t.shop.REST, "http://")
	if !ok {
		return nil, fmt.Errorf("REST is at %q, want http://HOST:PORT", t.shop.REST)
	}
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	c := &restConn{conn: conn, in: bufio.NewReader(conn), headers: " HTTP/1.1\r\nHost: " + host + "\r\n"}
	if len(t.tokens) > 0 {
		c.headers += "Authorization: Bearer " + t.tokens[rand.IntN(len(t.tokens))] + "\r\n"
	}
	return c, nil
}

// do makes a request and returns the body, which holds until the next one.
func (c *restConn) do(method, path string, body []byte) ([]byte, error) {
	c.out.Reset()
	for _, s := range []string{method, " ", path, c.headers} {
		c.out.WriteString(s)
	}
	if body != nil {
		fmt.Fprintf(&c.out, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	c.out.WriteString("\r\n")
	c.out.Write(body)
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	c.out.Reset()
	if _, err := io.Copy(&c.out, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, c.out.Bytes())
	}
	return c.out.Bytes(), nil
}

// openREST does what open does where nothing but the gateway can be reached.
func (t *target) openREST(context.Context) error {
	c, err := t.dialREST()
	if err != nil {
		return err
	}
	defer c.conn.Close()
	account := fmt.Appendf(nil, `{"email":%q,"password":%q`, email, password)
	// It may be there already: then the login works.
	_, errSignUp := c.do("POST", "/v1/users", append(account, `,"display_name":"Ada"}`...))
	var login struct {
		Token string `json:"access_token"`
	}
	if err := c.read(&login, "POST", "/v1/auth:login", append(account, '}')); err != nil {
		return errors.Join(errSignUp, err)
	}
	var list struct{ Products []struct{ ID string } }
	if err := c.read(&list, "GET", "/v1/products?page_size=1000", nil); err != nil {
		return err
	}
	t.tokens, t.products = []string{login.Token}, nil
	for _, p := range list.Products {
		t.products = append(t.products, p.ID)
	}
	if len(t.products) == 0 {
		return errors.New("the catalog is empty")
	}
	return nil
}

func (c *restConn) read(into any, method, path string, body []byte) error {
	text, err := c.do(method, path, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
