package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// profiles are skaffold's, by the mode.
var profiles = map[string]string{"plain": "test", "proxyless": "proxyless,test-proxyless"}

const noCluster = `no cluster answers: %w
Any context of kubectl will do, such as that of kind or minikube. With no cluster at
hand, on a root Debian machine: eval "$(tools/cluster/up)" && tools/cluster/load`

// currentContext returns the name of the one that is used.
func currentContext(ctx context.Context) (string, error) {
	for _, program := range []string{"kubectl", "tools/bin"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%s is not here (it runs in the root of the repository): %w", program, err)
		}
	}
	name, err := kubectl(ctx, "config", "current-context")
	if err != nil {
		return "", fmt.Errorf(noCluster, err)
	}
	if _, err := kubectl(ctx, "--request-timeout=10s", "get", "--raw", "/readyz"); err != nil {
		return "", fmt.Errorf(noCluster, err)
	}
	return string(bytes.TrimSpace(name)), nil
}

// deployed returns the mode of the shop that is there, "" if there is none. It
// fails where that is somebody's own.
func deployed(ctx context.Context) (string, error) {
	text, err := kubectl(ctx, "get", "namespace", shopSpace, "--ignore-not-found", "-o", "json")
	if err != nil || len(text) == 0 {
		return "", err
	}
	var space struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(text, &space); err != nil {
		return "", err
	}
	mode := space.Metadata.Labels["test-cluster"]
	if profiles[mode] == "" {
		return "", errors.New("the namespace meshmart is already there, and not of a run of this: take it away first (skaffold delete), or use another cluster")
	}
	return mode, nil
}

// skaffold runs one of its commands for a mode.
func skaffold(ctx context.Context, command, mode string) error {
	cmd := exec.CommandContext(ctx, "tools/bin", "-exec", "skaffold", command, "-p", profiles[mode])
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("skaffold %s: %w\n%s", command, err, last(said.String(), 40))
	}
	return nil
}

// takeAway removes what a mode has deployed, and waits until it is gone.
func takeAway(ctx context.Context, mode string) error {
	if err := skaffold(ctx, "delete", mode); err != nil {
		return err
	}
	_, err := kubectl(ctx, "wait", "--for=delete", "namespace/"+shopSpace, "namespace/"+loadSpace, "--timeout=240s")
	return err
}

func last(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// deploy builds and starts the shop, and notes how long it took until all of it
// was ready.
func (r *run) deploy(ctx context.Context) error {
	if err := skaffold(ctx, "build", r.cfg.Mode); err != nil { // apart, as what is built once is not built again
		return err
	}
	r.report.Build = time.Since(r.start)
	began := time.Now()
	if err := skaffold(ctx, "run", r.cfg.Mode); err != nil {
		return err
	}
	r.report.Ready = time.Since(began)
	var scalers struct {
		Items []struct {
			Spec struct {
				ScaleTargetRef struct{ Name string }
			}
		}
	}
	if err := read(ctx, &scalers, "hpa"); err != nil {
		return err
	}
	r.services = nil
	for _, s := range scalers.Items {
		r.services = append(r.services, s.Spec.ScaleTargetRef.Name)
	}
	if len(r.services) == 0 {
		return errors.New("no service has an autoscaler")
	}
	return r.settled(ctx)
}

// settled waits until each service has the replicas it should have, all ready, and
// none that are about to end; the stores, too.
func (r *run) settled(ctx context.Context) error {
	return until(ctx, 500*time.Millisecond, func() error {
		want, err := r.replicas(ctx)
		if err != nil {
			return err
		}
		all, err := pods(ctx, append([]string{"postgres", "nats"}, r.services...)...)
		if err != nil {
			return err
		}
		for _, p := range all {
			if !p.ready() {
				return fmt.Errorf("%s is not ready", p.Metadata.Name)
			}
			want[p.app()]--
		}
		for name, missing := range want {
			if missing != 0 {
				return fmt.Errorf("%s lacks %d replicas", name, missing)
			}
		}
		return nil
	})
}

// replicas are how many each Deployment and each store wants.
func (r *run) replicas(ctx context.Context) (map[string]int, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ Replicas int }
		}
	}
	err := read(ctx, &list, "deployment,statefulset")
	want := map[string]int{}
	for _, d := range list.Items {
		want[d.Metadata.Name] = d.Spec.Replicas
	}
	counted := map[string]int{}
	for _, name := range append([]string{"postgres", "nats"}, r.services...) {
		counted[name] = want[name]
	}
	return counted, err
}
