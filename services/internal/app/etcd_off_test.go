//go:build !etcd

package app

import (
	"context"
	"strings"
	"testing"
)

func TestEtcdIsRefusedWithHowToBuildIt(t *testing.T) {
	svc := Service{Name: "x", Start: func(context.Context, *Env) error { t.Error("started"); return nil }}
	err := Run(t.Context(), svc, Options{Environ: map[string]string{"MESH": "none", "ETCD_ENDPOINTS": "http://127.0.0.1:1"}})
	if err == nil || !strings.Contains(err.Error(), "ETCD_ENDPOINTS") || !strings.Contains(err.Error(), "-tags etcd") {
		t.Errorf("got %v", err)
	}
}
