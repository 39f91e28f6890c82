//go:build !proxyless

package app

import (
	"context"
	"strings"
	"testing"
)

func TestProxylessIsRefusedWithHowToBuildIt(t *testing.T) {
	svc := Service{Name: "x", Start: func(context.Context, *Env) error { t.Error("started"); return nil }}
	err := Run(t.Context(), svc, Options{Environ: map[string]string{"MESH": "proxyless"}})
	if err == nil || !strings.Contains(err.Error(), "MESH=proxyless") || !strings.Contains(err.Error(), "-tags proxyless") {
		t.Errorf("got %v", err)
	}
}
