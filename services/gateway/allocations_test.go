//go:build !race

package gateway

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// getAllocations is what a GET of one resource may allocate: in net/http, here, and
// in the call of the service, with its answer by a gRPC server without anything
// else. It is what was measured, and some for chance.
const getAllocations = 278 + 4

// asker asks for the same again and again, and allocates nothing itself.
type asker struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	body    []byte
}

func (s *site) asker(path string) *asker {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	text := "GET " + path + " HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer " + strings.Repeat("x", 400) + "\r\n\r\n"
	return &asker{s.t, conn, bufio.NewReader(conn), []byte(text), make([]byte, 4096)}
}

func (a *asker) ask() {
	if _, err := a.conn.Write(a.request); err != nil {
		a.t.Fatal(err)
	}
	size := 0
	for {
		line, err := a.in.ReadSlice('\n')
		if err != nil {
			a.t.Fatal(err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if text, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			size, _ = strconv.Atoi(string(text))
		}
	}
	if _, err := io.ReadFull(a.in, a.body[:size]); err != nil || !bytes.Contains(a.body[:size], []byte(aProduct.Id)) {
		a.t.Fatalf("%q: %v", a.body[:size], err)
	}
}

func TestAllocationsOfAGet(t *testing.T) {
	s := start(t, map[string]string{"TRACE_RATIO": "0"})
	got := testing.AllocsPerRun(2000, s.asker("/v1/products/"+anID).ask)
	t.Logf("figure: allocations of a REST GET in the gateway, with the call of a bare service: %.0f", got)
	if got > getAllocations {
		t.Errorf("a GET allocates %.0f times, which may be %d", got, getAllocations)
	}
}
