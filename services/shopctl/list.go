package shopctl

import (
	"strings"

	"github.com/spf13/cobra"
)

// query is which part of a list is wanted; the flags of all list commands.
type query struct {
	filter, order string
	limit         int
	all           bool
}

// maxPage is the longest page that the shop gives.
const maxPage = 1000

func (q *query) flags(cmd *cobra.Command, filter, order string) {
	f := cmd.Flags()
	f.StringVar(&q.filter, "filter", "", "which ones (AIP-160), such as '"+filter+"'")
	f.StringVar(&q.order, "order-by", "", "in which order, such as '"+order+"'")
	f.IntVar(&q.limit, "limit", 50, "how many at most")
	f.BoolVar(&q.all, "all", false, "all of them, however many")
}

// and narrows the filter by another condition.
func (q *query) and(condition string) {
	if q.filter != "" {
		condition = "(" + q.filter + ") AND " + condition
	}
	q.filter = condition
}

// literal is a string in a filter.
func literal(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// page is one page of a list, and how it is shown.
type page struct {
	raw   []byte
	reply interface {
		GetNextPageToken() string
		GetTotalSize() int32
	}
	n     int
	table func() *table
}

// pages prints a list page by page: it is never in memory as a whole. For
// people a page is a table of its own, so long pages are asked for.
func (q *query) pages(c *cli, what string, get func(token string, size int32) (page, error)) error {
	if q.limit < 1 {
		return usagef("--limit must be positive")
	}
	token, shown := "", 0
	for {
		size := maxPage
		if !q.all {
			size = min(size, q.limit-shown)
		}
		p, err := get(token, int32(size))
		if err != nil {
			return err
		}
		shown += p.n
		c.out.reply(p.raw, p.table)
		token = p.reply.GetNextPageToken()
		switch {
		case token == "":
			return nil
		case !q.all && shown >= q.limit:
			c.notice("%s of %s %s; see more with --limit or --all", count(int64(shown)), atLeast(p.reply.GetTotalSize()), what)
			return nil
		}
	}
}

// atLeast writes a total, which the shop counts up to 1,000.
func atLeast(total int32) string {
	if total >= 1000 {
		return "1,000 or more"
	}
	return count(int64(total))
}
