package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// crossed are the services that the trace of an order goes through.
var crossed = []string{"gateway", "inventory", "order", "payment"}

// findTrace finds the trace of an order in Jaeger. The collector keeps a share of
// them, and decides when they are some time old, so all orders so far are tried.
func (r *run) findTrace(ctx context.Context) error {
	addr, done, err := forward(ctx, "svc/jaeger", "16686")
	if err != nil {
		return err
	}
	defer done()
	c := r.customers
	return until(ctx, 2*time.Second, func() error {
		c.mu.Lock()
		orders := c.orders
		c.mu.Unlock()
		best := "none of their traces is there"
		for i, o := range orders {
			services, spans, err := traced(ctx, addr, o.Trace)
			if err != nil {
				return err
			}
			if len(services) > 0 {
				best = fmt.Sprintf("the trace %s has only %v", o.Trace, services)
			}
			if !slices.ContainsFunc(crossed, func(s string) bool { return !slices.Contains(services, s) }) {
				r.report.Trace = fmt.Sprintf("%s of order %s: %d spans in %s (the first kept, of %d orders)", o.Trace, o.ID, spans, strings.Join(services, ", "), i+1)
				return nil
			}
		}
		return fmt.Errorf("of %d orders: %s", len(orders), best)
	})
}

// traced returns the services that have spans in a trace, none if Jaeger does not
// have it.
func traced(ctx context.Context, addr, id string) (services []string, spans int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/traces/"+id, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, 0, nil
	}
	var reply struct {
		Data []struct {
			Spans     []struct{}
			Processes map[string]struct{ ServiceName string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return nil, 0, fmt.Errorf("trace %s: %s: %w", id, resp.Status, err)
	}
	for _, t := range reply.Data {
		spans += len(t.Spans)
		for _, p := range t.Processes {
			services = append(services, p.ServiceName)
		}
	}
	slices.Sort(services)
	return slices.Compact(services), spans, nil
}
