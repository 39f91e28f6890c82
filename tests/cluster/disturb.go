package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

func (r *run) deployments() []string {
	var all []string
	for _, name := range r.services {
		all = append(all, "deployment/"+name)
	}
	return all
}

// rollout replaces all pods of all services at the same time, as a release does.
func (r *run) rollout(ctx context.Context) error {
	if _, err := kubectl(ctx, append([]string{"-n", shopSpace, "rollout", "restart"}, r.deployments()...)...); err != nil {
		return err
	}
	for _, d := range r.deployments() {
		if _, err := kubectl(ctx, "-n", shopSpace, "rollout", "status", d, "--timeout=300s"); err != nil {
			return err
		}
	}
	return r.settled(ctx)
}

// restartIstiod has another control plane take the place of the one there is.
func (r *run) restartIstiod(ctx context.Context) error {
	for _, args := range [][]string{{"rollout", "restart", "deployment/istiod"}, {"rollout", "status", "deployment/istiod", "--timeout=300s"}} {
		if _, err := kubectl(ctx, append([]string{"-n", "istio-system"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// scale adds a replica to each service and takes one away. How many there are is
// the autoscaler's to say, so it is told between what to choose.
func (r *run) scale(ctx context.Context) error {
	for _, bounds := range []string{
		`{"spec": {"minReplicas": 3}}`,
		`{"spec": {"minReplicas": 2, "maxReplicas": 2, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}`,
		`{"spec": {"maxReplicas": 10, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}}`,
	} {
		for _, name := range r.services {
			if _, err := kubectl(ctx, "-n", shopSpace, "patch", "hpa", name, "--type=merge", "-p", bounds); err != nil {
				return err
			}
		}
		if err := r.bounded(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bounded waits until each autoscaler has as many replicas as it may have.
func (r *run) bounded(ctx context.Context) error {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ MinReplicas, MaxReplicas int }
		}
	}
	if err := read(ctx, &list, "hpa"); err != nil {
		return err
	}
	err := until(ctx, time.Second, func() error {
		have, err := r.replicas(ctx)
		if err != nil {
			return err
		}
		for _, s := range list.Items {
			if n := have[s.Metadata.Name]; n < s.Spec.MinReplicas || n > s.Spec.MaxReplicas {
				return fmt.Errorf("%s has %d replicas, not between %d and %d", s.Metadata.Name, n, s.Spec.MinReplicas, s.Spec.MaxReplicas)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.settled(ctx)
}

// drain has every pod of the services evicted, as kubectl drain does it node by
// node: all at the same time, and each as soon as the disruption budget lets it go.
// No node is cordoned, as there may be one only.
func (r *run) drain(ctx context.Context) error {
	all, err := pods(ctx, r.services...)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range all {
		g.Go(func() error { return evict(gctx, p.Metadata.Name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.settled(ctx)
}

func evict(ctx context.Context, name string) error {
	eviction, err := json.Marshal(map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": map[string]any{"name": name, "namespace": shopSpace},
	})
	if err != nil {
		return err
	}
	path := "/api/v1/namespaces/" + shopSpace + "/pods/" + name + "/eviction"
	return until(ctx, 2*time.Second, func() error {
		_, err := kubectlIn(ctx, string(eviction), "create", "--raw", path, "-f", "-")
		if err != nil && strings.Contains(err.Error(), "NotFound") {
			return nil
		}
		return err
	})
}

// kill ends a pod of each service, one after the other, with no time to drain.
func (r *run) kill(ctx context.Context) error {
	for _, name := range r.services {
		all, err := pods(ctx, name)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("%s has no pods", name)
		}
		began := time.Now()
		if _, err := kubectl(ctx, "-n", shopSpace, "delete", "pod", all[0].Metadata.Name, "--grace-period=0", "--force"); err != nil {
			return err
		}
		if err := r.settled(ctx); err != nil {
			return err
		}
		r.recovered(name, began)
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// restart ends a pod of a store, which its StatefulSet makes again with its data.
func (r *run) restart(ctx context.Context, pod string) error {
	began := time.Now()
	if _, err := kubectl(ctx, "-n", shopSpace, "delete", "pod", pod); err != nil {
		return err
	}
	if err := r.settled(ctx); err != nil {
		return err
	}
	r.recovered(pod, began)
	return nil
}

// recovered notes how long it took until everything was ready again.
func (r *run) recovered(what string, since time.Time) {
	p := &r.report.Phases[len(r.report.Phases)-1]
	p.Ready = append(p.Ready, time.Since(since))
	r.say("  %s is replaced after %v", what, time.Since(since).Round(100*time.Millisecond))
}
