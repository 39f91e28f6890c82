package list

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/meshmart/meshmart/services/internal/fault"
)

// maxToken is how long a page token may be, in bytes.
const maxToken = 8 << 10

// cursor is what a page token says. It is no secret and not signed: with
// another one a caller begins elsewhere in the rows they may see anyway.
type cursor struct {
	Print string `json:"p"` // of the request it belongs to
	Keys  []any  `json:"k"` // those of the last row of the page before
}

// fingerprint tells requests apart whose pages have nothing to do with each
// other. It starts with the version of the token.
func fingerprint(filter string, order []sortKey) string {
	h := sha256.Sum256(fmt.Appendf(nil, "1 %q %+v", strings.TrimSpace(filter), order))
	return base64.RawURLEncoding.EncodeToString(h[:6])
}

// token returns the page token for what follows the row with these keys.
func (q *Query) token(keys []any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // a token must stay short
	if err := e.Encode(cursor{q.print, keys}); err != nil {
		panic(err) // pointers to strings and integers always encode
	}
	return base64.RawURLEncoding.EncodeToString(bytes.TrimSpace(b.Bytes()))
}

// begin returns the condition that a page begins after the row in the token.
func (q *Query) begin(token string) (clause, error) {
	if token == "" {
		return clause{}, nil
	}
	c, err := readCursor(token)
	if err != nil {
		return clause{}, fault.Invalid("page_token", "is not one that was given out")
	}
	if c.Print != q.print {
		return clause{}, fault.Invalid("page_token", "belongs to a list with another filter or order_by")
	}
	values, err := q.read(c.Keys)
	if err != nil {
		return clause{}, fault.Invalid("page_token", "is not one that was given out")
	}
	return afterRow(q.order, values), nil
}

func readCursor(token string) (cursor, error) {
	var c cursor
	if len(token) > maxToken {
		return c, errors.New("too long")
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // a float64 would lose the last digits
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows")
	}
	return c, nil
}

// read returns the keys as the columns hold them.
func (q *Query) read(keys []any) ([]any, error) {
	if len(keys) != len(q.order) {
		return nil, errors.New("not as many keys")
	}
	values := make([]any, len(keys))
	for i, k := range q.order {
		switch v := keys[i].(type) {
		case string:
			if k.kind != String || strings.ContainsRune(v, 0) {
				return nil, errors.New("not a text")
			}
			values[i] = v
		case json.Number:
			n, err := v.Int64()
			if err != nil || k.kind == String {
				return nil, errors.New("not a number")
			}
			values[i] = n
		default:
			return nil, errors.New("not a value")
		}
	}
	return values, nil
}
