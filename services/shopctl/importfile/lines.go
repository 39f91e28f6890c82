// Package importfile reads files of products, line by line: CSV, and JSON lines.
package importfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/shopctl/price"
)

// Columns returns what a CSV file may have, in any order.
func Columns() []string {
	return []string{"sku", "name", "description", "category", "image", "price", "currency", "stock"}
}

// BadLine says what is wrong with a line. Without a field it is the line itself.
type BadLine struct{ SKU, Field, Reason string }

func (e *BadLine) Error() string { return strings.TrimSpace(e.Field + " " + e.Reason) }

// Reader reads a file, a line at a time.
type Reader struct {
	records *records
	parse   func(record []byte) (*productpb.ImportProductsRequest, error)
}

// Options is what the file does not say itself.
type Options struct {
	Name     string // its end tells the format
	Format   string // "csv" or "jsonl"; else it is told by the name, or by the beginning
	Currency string // of CSV lines that have none
}

// NewReader reads as much as it takes to know the format and the columns.
func NewReader(from io.Reader, o Options) (*Reader, error) {
	buffered := bufio.NewReader(from)
	if bom, _ := buffered.Peek(3); string(bom) == "\ufeff" {
		_, _ = buffered.Discard(3) // has just been peeked
	}
	isCSV := looksLikeCSV(buffered, o)
	r := &Reader{records: newRecords(buffered, isCSV), parse: parseJSON}
	if isCSV {
		return r, r.readHeader(o.Currency)
	}
	return r, nil
}

func looksLikeCSV(r *bufio.Reader, o Options) bool {
	if o.Format != "" {
		return o.Format == "csv"
	}
	switch strings.ToLower(filepath.Ext(o.Name)) {
	case ".csv":
		return true
	case ".jsonl", ".ndjson", ".json":
		return false
	}
	for n := 1; ; n++ { // not waiting for more than there is yet
		start, err := r.Peek(n)
		if err != nil { // it shows again when it is read
			return true
		}
		if last := start[n-1]; !strings.ContainsRune(" \t\r\n", rune(last)) {
			return last != '{'
		}
	}
}

// Next returns the next product and the number of its line, from 1: a *BadLine
// in its place, or io.EOF after the last. Empty lines are passed over.
func (r *Reader) Next() (*productpb.ImportProductsRequest, int64, error) {
	for {
		record, err := r.records.read()
		line := r.records.line
		switch {
		case errors.Is(err, errLong):
			return nil, line, &BadLine{Reason: err.Error()}
		case err != nil:
			return nil, line, err
		case len(bytes.TrimSpace(record)) == 0:
			continue
		case !utf8.Valid(record):
			return nil, line, &BadLine{Reason: "is not UTF-8"}
		}
		req, err := r.parse(record)
		return req, line, err
	}
}

func parseJSON(record []byte) (*productpb.ImportProductsRequest, error) {
	req := &productpb.ImportProductsRequest{}
	if err := protojson.Unmarshal(record, req); err != nil {
		// The library puts a space of either kind after "proto:", on purpose.
		reason := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return nil, &BadLine{Reason: "is no product in JSON: " + reason}
	}
	return req, nil
}

// readHeader takes the first line, which names the columns.
func (r *Reader) readHeader(currency string) error {
	record, err := r.records.read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty: its first line must name the columns")
	} else if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	head, err := splitCSV(record)
	if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	at := map[string]int{}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := at[name]; twice || !slices.Contains(Columns(), name) {
			return fmt.Errorf("line 1: %q is not a column, or is there twice; columns are %s", name, strings.Join(Columns(), ", "))
		}
		at[name] = i
	}
	for _, name := range []string{"sku", "name", "category", "price"} {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("line 1: there must be a column %q", name)
		}
	}
	c := &csvLine{at: at, width: len(head), currency: currency}
	r.parse = c.parse
	return nil
}

// splitCSV reads one record.
func splitCSV(record []byte) ([]string, error) {
	fields, err := csv.NewReader(bytes.NewReader(record)).Read()
	if p, ok := errors.AsType[*csv.ParseError](err); ok {
		return nil, &BadLine{Reason: fmt.Sprintf("is not CSV: column %d: %v", p.Column, p.Err)}
	}
	return fields, err
}

// csvLine reads the lines of a CSV file as its header names them.
type csvLine struct {
	at       map[string]int
	width    int
	currency string
}

func (c *csvLine) parse(record []byte) (*productpb.ImportProductsRequest, error) {
	fields, err := splitCSV(record)
	if err != nil {
		return nil, err
	}
	if len(fields) != c.width {
		return nil, &BadLine{SKU: fields[0], Reason: fmt.Sprintf("has %d fields and not %d as the first line", len(fields), c.width)}
	}
	get := func(name string) string {
		if i, ok := c.at[name]; ok {
			return strings.TrimSpace(fields[i])
		}
		return ""
	}
	p := &productpb.Product{
		Sku: get("sku"), Name: get("name"), Description: get("description"), Category: get("category"), Image: get("image"),
	}
	currency := get("currency")
	if currency == "" {
		currency = c.currency
	}
	if p.Price, err = price.Parse(get("price"), currency); err != nil {
		return nil, &BadLine{p.GetSku(), "price", err.Error()}
	}
	stock := int64(0)
	if text := get("stock"); text != "" {
		if stock, err = strconv.ParseInt(text, 10, 32); err != nil {
			return nil, &BadLine{p.GetSku(), "stock", fmt.Sprintf("%q is not a whole number", text)}
		}
	}
	return &productpb.ImportProductsRequest{Product: p, InitialStock: int32(stock)}, nil
}
