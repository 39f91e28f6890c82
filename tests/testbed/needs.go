package testbed

import (
	"context"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// NeedsDocker skips the test where no Docker engine answers.
func NeedsDocker(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err == nil {
		defer docker.Close()
		_, err = docker.Info(ctx, client.InfoOptions{})
	}
	if err != nil {
		t.Skipf("no Docker engine answers, `tests/prepare` says how to get one: %v", err)
	}
}
