package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	orderpb "github.com/meshmart/meshmart/proto/order/v1"
	"github.com/meshmart/meshmart/services/shopctl/rest"
	"github.com/meshmart/meshmart/tests/cluster/customer"
	"github.com/meshmart/meshmart/tests/cluster/load/line"
)

// load is a customer who calls at a steady rate, however long a call takes.
type load struct {
	who      *customer.Customer
	products []string

	mu   sync.Mutex
	last string // order
	line line.Line
}

// open registers a customer, as soon as the shop is there.
func open(ctx context.Context, server string) (*load, error) {
	l := &load{who: customer.New(server)}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := l.who.Register(ctx)
		if err == nil {
			l.products, err = l.who.Products(ctx)
		}
		if err == nil && len(l.products) == 0 {
			err = fmt.Errorf("the catalog of %s is empty", server)
		}
		if err == nil {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// call makes rate calls a second until ctx is done, and waits for the last. Of
// four one places an order, one reads one, and two read the catalog.
func (l *load) call(ctx context.Context, rate int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wg.Go(func() { l.one(context.WithoutCancel(ctx), i) })
		}
	}
}

func (l *load) one(ctx context.Context, i int) {
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	switch {
	case i%4 == 0:
		l.counted("order", func() error { return l.order(ctx, i) })
	case i%4 == 1 && last != "":
		l.counted("read", func() error {
			o, err := l.who.Read(ctx, last)
			return should(err, o.GetId() == last, "order %s was read as %q", last, o.GetId())
		})
	default:
		l.counted("catalog", func() error {
			ids, err := l.who.Products(ctx)
			return should(err, len(ids) == len(l.products), "the catalog has %d products and had %d", len(ids), len(l.products))
		})
	}
}

func (l *load) order(ctx context.Context, i int) error {
	o, err := l.who.Order(ctx, l.products[i%len(l.products)], "tok_visa")
	if err := should(err, o.GetId() != "" && o.GetState() != orderpb.Order_REJECTED, "the order %s is %s", o.GetId(), o.GetState()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = o.GetId()
	l.line.Orders = append(l.line.Orders, line.Order{ID: o.GetId(), Trace: o.GetTraceId()})
	return nil
}

func should(err error, ok bool, format string, args ...any) error {
	if err == nil && !ok {
		return fmt.Errorf(format, args...)
	}
	return err
}

// counted makes a call and notes how it ended.
func (l *load) counted(what string, fn func() error) {
	began := time.Now()
	err := fn()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line.Took = append(l.line.Took, time.Since(began).Milliseconds())
	if err != nil {
		l.line.Failed = append(l.line.Failed, line.Failure{Began: began, Ended: time.Now(), Call: what, Error: describe(err)})
	}
}

// describe says the code, too, where the shop has answered.
func describe(err error) string {
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if rest.IsCode(err, c) {
			return fmt.Sprintf("%v: %v", c, err)
		}
	}
	return err.Error()
}
