package shopctl

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	productpb "github.com/meshmart/meshmart/proto/product/v1"
	"github.com/meshmart/meshmart/services/shopctl/importfile"
	"github.com/meshmart/meshmart/services/shopctl/rest"
)

// maxTold is how many rejected lines are told, as the server does.
const maxTold = 100

// importing is one import under way. What is not atomic belongs to the sending
// goroutine until that has ended.
type importing struct {
	shop     *rest.Client
	file     *importfile.Reader
	progress *progress
	lines    lineMap
	bad      []*productpb.ImportRejection // the first of those that were not sent
}

// openImport opens the file, or standard input for "-". size is 0 if not known.
func openImport(name string, stdin io.Reader) (file io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}

// send streams the file to the server and returns the summary, with the lines
// of the file in it, and those that were not sent.
func (i *importing) send(ctx context.Context) (*productpb.ImportProductsResponse, error) {
	stop, shown := make(chan struct{}), make(chan struct{})
	go func() { defer close(shown); i.progress.run(stop) }()
	sum, err := i.upload(ctx)
	close(stop)
	<-shown
	if err != nil {
		return nil, err
	}
	i.merge(sum)
	return sum, nil
}

// upload sends the file. Its memory is bounded: what the server has not taken
// is not read.
func (i *importing) upload(ctx context.Context) (*productpb.ImportProductsResponse, error) {
	from, to := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = to.CloseWithError(i.feed(to)) // never fails
	}()
	// net/http ends a request only when nobody is reading the body any more.
	stop := context.AfterFunc(ctx, func() { _ = from.CloseWithError(ctx.Err()) }) // never fails
	defer stop()
	sum := &productpb.ImportProductsResponse{}
	err := i.shop.Upload(ctx, productpb.ProductService_ImportProducts_FullMethodName, from, sum)
	if err == nil {
		<-sent
		return sum, nil
	}
	// Not waiting for the sender: it may be reading a pipe that never ends.
	_ = from.Close() // never fails
	if bad, ok := errors.AsType[*unreadable](err); ok {
		return nil, bad
	}
	if rest.Transient(err) && i.progress.lines.Load() > 0 {
		err = fmt.Errorf("%w; what the shop has taken stays, and it is safe to send the file again", err)
	}
	return nil, err
}

// unreadable says that the file itself could not be read to its end.
type unreadable struct{ err error }

func (e *unreadable) Error() string { return e.err.Error() }
func (e *unreadable) Unwrap() error { return e.err }

// feed writes the file's good lines as the server wants them.
func (i *importing) feed(to io.Writer) error {
	w := bufio.NewWriterSize(to, 32<<10)
	for {
		req, line, err := i.file.Next()
		if bad, ok := errors.AsType[*importfile.BadLine](err); ok {
			i.reject(line, bad)
			continue
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.Flush()
		case err != nil:
			return &unreadable{err}
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
		if err != nil {
			i.reject(line, &importfile.BadLine{Reason: err.Error()})
			continue
		}
		if _, err := w.Write(append(text, '\n')); err != nil {
			return err
		}
		i.lines.add(line)
		i.progress.lines.Add(1)
	}
}

func (i *importing) reject(line int64, b *importfile.BadLine) {
	i.progress.bad.Add(1)
	if len(i.bad) < maxTold {
		i.bad = append(i.bad, &productpb.ImportRejection{Line: line, Sku: b.SKU, Field: b.Field, Reason: b.Reason})
	}
}

// merge puts the file's line numbers into the server's summary, and adds what
// the server has not seen.
func (i *importing) merge(sum *productpb.ImportProductsResponse) {
	for _, r := range sum.GetRejections() {
		r.Line = i.lines.line(r.GetLine())
	}
	sum.Received += i.progress.bad.Load()
	sum.Rejected += i.progress.bad.Load()
	sum.Rejections = append(sum.Rejections, i.bad...)
	slices.SortStableFunc(sum.Rejections, func(a, b *productpb.ImportRejection) int { return cmp.Compare(a.Line, b.Line) })
	sum.Rejections = sum.Rejections[:min(maxTold, len(sum.Rejections))]
}

// importFile imports a file and prints what became of it.
func (c *cli) importFile(ctx context.Context, o importfile.Options) error {
	file, size, err := openImport(o.Name, c.Stdin)
	if err != nil {
		return err
	}
	defer file.Close()
	_, tty := terminal(c.Stderr)
	p := &progress{w: c.Stderr, terminal: tty && c.Env("TERM") != "dumb", total: size, now: time.Now, start: time.Now()}
	ctx, cancel := c.unhurried(ctx)
	defer cancel()
	lines, err := await(ctx, func() (*importfile.Reader, error) { return importfile.NewReader(io.TeeReader(file, p), o) })
	if err != nil {
		return err
	}
	sum, err := (&importing{shop: c.shop, file: lines, progress: p}).send(ctx)
	if err != nil {
		return err
	}
	if err := c.showImport(sum); err != nil {
		return err
	}
	if n := sum.GetRejected(); n > 0 {
		return &partly{n, sum.GetReceived()}
	}
	return nil
}

func (c *cli) showImport(sum *productpb.ImportProductsResponse) error {
	if c.out.json {
		text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(sum)
		if err != nil {
			return fmt.Errorf("summary: %w", err)
		}
		c.out.reply(bytes.TrimSpace(text), nil)
		return nil
	}
	t := &table{head: []string{">RECEIVED", ">CREATED", ">UPDATED", ">UNCHANGED", ">REJECTED"}}
	t.add(count(sum.GetReceived()), count(sum.GetCreated()), count(sum.GetUpdated()), count(sum.GetUnchanged()), count(sum.GetRejected()))
	c.out.table(t)
	if len(sum.GetRejections()) == 0 {
		return nil
	}
	t = &table{head: []string{">LINE", "SKU", "FIELD", "REASON"}, flexible: 3}
	for _, r := range sum.GetRejections() {
		line := "?"
		if r.GetLine() > 0 {
			line = fmt.Sprint(r.GetLine())
		}
		t.add(line, r.GetSku(), r.GetField(), r.GetReason())
	}
	c.out.say("")
	c.out.table(t)
	if more := sum.GetRejected() - int64(len(sum.GetRejections())); more > 0 {
		c.out.say("and %s more", count(more))
	}
	return nil
}
