package importfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxRecord bounds a line of an import file, in bytes. No product that the shop
// would take comes near it, and it bounds what an import keeps in memory.
const maxRecord = 256 << 10

var errLong = errors.New("is longer than any product")

// records cuts a file into lines or, of CSV, into records, which may have line
// breaks inside of quotes (RFC 4180). Memory is bounded whatever the file holds:
// a quote that is never closed makes one bad line.
type records struct {
	scan     *bufio.Scanner
	csv      bool
	line     int64 // number of the first line of the record, from 1
	next     int64 // number of the line after what has been cut
	long     bool  // the record is longer than maxRecord, and not there
	skipping bool  // the rest of such a line
}

func newRecords(from io.Reader, csv bool) *records {
	r := &records{scan: bufio.NewScanner(from), csv: csv, next: 1}
	r.scan.Buffer(make([]byte, 0, 64<<10), 2*maxRecord)
	r.scan.Split(r.split)
	return r
}

// read returns the next record without its line break, valid until the next
// call: io.EOF after the last one, errLong in place of one that is too long.
func (r *records) read() ([]byte, error) {
	if !r.scan.Scan() {
		if err := r.scan.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if r.long {
		return nil, errLong
	}
	return bytes.TrimSuffix(r.scan.Bytes(), []byte("\r")), nil
}

// split is a bufio.SplitFunc.
func (r *records) split(data []byte, atEOF bool) (int, []byte, error) {
	if r.skipping {
		return r.skip(data, atEOF)
	}
	end, open := len(data), false
	if i, quoted := recordEnd(data, r.csv); i >= 0 {
		return r.cut(data, i, i+1)
	} else if open = quoted; open {
		end = bytes.IndexByte(data, '\n') // where to go on if the quote is not closed
	}
	full := len(data) >= maxRecord
	switch {
	case len(data) == 0 || !atEOF && !full:
		return 0, nil, nil
	case open && end >= 0:
		return r.cut(data, end, end+1)
	case full:
		r.skipping = true
		r.cut(data, 0, 0)
		r.long = true
		return len(data), data[:0], nil
	}
	return r.cut(data, len(data), len(data))
}

// cut returns data[:end] as a record and goes on at next.
func (r *records) cut(data []byte, end, next int) (int, []byte, error) {
	r.long = false
	r.line = r.next
	r.next += int64(bytes.Count(data[:next], []byte("\n")))
	return next, data[:end], nil
}

func (r *records) skip(data []byte, atEOF bool) (int, []byte, error) {
	i := bytes.IndexByte(data, '\n')
	if i < 0 {
		return len(data), nil, nil
	}
	r.skipping = false
	r.next++
	n, record, err := r.split(data[i+1:], atEOF)
	return i + 1 + n, record, err
}

// recordEnd returns where the first record of data ends, or -1 and whether it
// is still inside of quotes. As encoding/csv has it, only a quote at the start of
// a field opens one.
func recordEnd(data []byte, csv bool) (end int, quoted bool) {
	if !csv {
		return bytes.IndexByte(data, '\n'), false
	}
	const start, plain, inside, closing = 0, 1, 2, 3
	state := start
	for i, b := range data {
		switch {
		case state == inside:
			if b == '"' {
				state = closing
			}
		case b == '\n':
			return i, false
		case b == ',':
			state = start
		case b == '"' && state != plain: // opens a field, or was the first of two
			state = inside
		case b == '\r' && state == closing:
		default:
			state = plain
		}
	}
	return -1, state == inside
}
