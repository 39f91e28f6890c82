package testbed

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hang is longer than anything here takes.
const hang = time.Minute

// TestBed starts a shop behind proxies and breaks it in each way once.
func TestBed(t *testing.T) {
	NeedsDocker(t)
	ctx := t.Context()
	b, err := Start(ctx, Options{Proxied: true})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	gateway, order := b.Service("gateway")[0], b.Service("order")[0]
	wantReadiness := func(when string, want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, hang)
		defer cancel()
		err := eventually(ctx, func(ctx context.Context) error {
			switch err := order.ready(ctx); {
			case (err == nil) == want:
				return nil
			case err != nil:
				return err
			default:
				return errors.New("it is ready")
			}
		})
		if err != nil {
			t.Errorf("%s: ready is not %v: %v", when, want, err)
		}
	}
	for _, tt := range []struct {
		name       string
		hurt, heal func(context.Context) error
	}{
		{"kill", order.Kill, order.Start},
		{"stop", order.Stop, order.Start},
		{"pause", order.Pause, order.Resume},
	} {
		if err := tt.hurt(ctx); err != nil {
			t.Fatal(err)
		}
		wantReadiness("after "+tt.name, false)
		if err := tt.heal(ctx); err != nil {
			t.Fatal(err)
		}
		wantReadiness("healed after "+tt.name, true)
	}
	for name, hurt := range map[string]func() (func() error, error){
		"silence":    func() (func() error, error) { return b.Silence("postgres") },
		"disconnect": func() (func() error, error) { return b.Disconnect("postgres") },
	} {
		heal, err := hurt()
		if err != nil {
			t.Fatal(err)
		}
		wantReadiness("after "+name+" of the database", false)
		if err := heal(); err != nil {
			t.Fatal(err)
		}
		wantReadiness("healed after "+name, true)
	}
	url, err := gateway.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get(url + "/healthz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("gateway: %v, %v", resp, err)
	}
	if log := order.Log(ctx, 0); strings.Count(log, `"msg":"serving gRPC"`) != 3 {
		t.Errorf("the log is not that of three runs:\n%s", log)
	}
}
