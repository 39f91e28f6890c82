package shopctl

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table is aligned text for people.
type table struct {
	head []string // "" for no header line; a leading ">" aligns the column to the right
	rows [][]string
	// flexible is the column that is shortened for a narrow terminal; the others
	// are needed whole, to be copied.
	flexible int
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = clean(fmt.Sprint(c))
	}
	t.rows = append(t.rows, row)
}

// write writes the table, in lines of at most width characters if that is not 0.
func (t *table) write(w io.Writer, width int, color bool) {
	head := make([]string, len(t.head))
	right := make([]bool, len(t.head))
	for i, h := range t.head {
		head[i], right[i] = strings.TrimPrefix(h, ">"), strings.HasPrefix(h, ">")
	}
	widths := t.widths(head, width)
	rows := t.rows
	if strings.Join(head, "") != "" {
		rows = append([][]string{head}, rows...)
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(pad(cell, widths[i], right[i], color))
			b.WriteString("  ")
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func (t *table) widths(head []string, limit int) []int {
	widths, total := make([]int, len(head)), -2
	for _, row := range append([][]string{head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, n := range widths {
		total += n + 2
	}
	if over := total - limit; limit > 0 && over > 0 {
		widths[t.flexible] = max(10, widths[t.flexible]-over)
	}
	return widths
}

func pad(cell string, width int, right, color bool) string {
	n := utf8.RuneCountInString(cell)
	if n > width {
		cell, n = string([]rune(cell)[:width-1])+"…", width
	}
	space := strings.Repeat(" ", width-n)
	if color {
		cell = paint(cell)
	}
	if right {
		return space + cell
	}
	return cell + space
}

// paint colours the states of orders and leaves everything else as it is.
func paint(cell string) string {
	code := ""
	switch cell {
	case "COMPLETED":
		code = "32" // green
	case "PENDING", "CONFIRMED", "CANCELLING":
		code = "33" // yellow
	case "REJECTED", "CANCELLED":
		code = "31" // red
	default:
		return cell
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}

// clean makes text safe and fit for one line: names and messages come from
// others, and what a terminal takes for a command must not reach it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
}
