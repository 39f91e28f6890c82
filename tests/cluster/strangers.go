package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/meshmart/meshmart/tests/cluster/load/stranger"
)

// ask runs a pod like those of a Deployment, with its service account and what a
// mesh puts beside it, and returns what it hears.
func ask(ctx context.Context, space, like, image string, questions []string) ([]stranger.Answer, error) {
	text, err := kubectl(ctx, "-n", space, "get", "deployment", like, "-o", "json")
	if err != nil {
		return nil, err
	}
	name := "stranger-like-" + like
	app := like // whom NetworkPolicies take it for
	if space != shopSpace {
		app = "stranger"
	}
	pod, err := askingPod(text, name, app, image, questions)
	if err != nil {
		return nil, err
	}
	remove := func() error {
		_, err := kubectl(context.WithoutCancel(ctx), "-n", space, "delete", "pod", name, "--ignore-not-found", "--grace-period=1")
		return err
	}
	if err := remove(); err != nil { // of a run that was cut off
		return nil, err
	}
	defer remove()
	if _, err := kubectlIn(ctx, string(pod), "-n", space, "create", "-f", "-"); err != nil {
		return nil, err
	}
	var answers []stranger.Answer
	return answers, until(ctx, 500*time.Millisecond, func() error {
		text, err := kubectl(ctx, "-n", space, "logs", name, "-c", container(like))
		if err == nil {
			answers, err = heard(text)
		}
		return err
	})
}

func container(deployment string) string {
	if deployment == "load" {
		return "load"
	}
	return "service"
}

// askingPod makes a pod of a Deployment's template. It has no other label than app,
// so that no ReplicaSet takes it for its own, and is never ready, so that no Service
// does.
func askingPod(deployment []byte, name, app, image string, questions []string) ([]byte, error) {
	var d struct {
		Spec struct {
			Template struct {
				Metadata struct{ Labels, Annotations map[string]string }
				Spec     map[string]any
			}
		}
	}
	if err := json.Unmarshal(deployment, &d); err != nil {
		return nil, err
	}
	labels, spec := d.Spec.Template.Metadata.Labels, d.Spec.Template.Spec
	maps.DeleteFunc(labels, func(key, _ string) bool { return !strings.Contains(key, "istio.io/") })
	labels["app"] = app
	spec["readinessGates"] = []any{map[string]any{"conditionType": "meshmart.test/never"}}
	spec["restartPolicy"] = "Never"
	delete(spec, "topologySpreadConstraints")
	containers, _ := spec["containers"].([]any)
	for i, v := range containers {
		if c, _ := v.(map[string]any); c["name"] != "istio-proxy" {
			containers[i] = map[string]any{
				"name": c["name"], "image": image, "args": questions, "securityContext": c["securityContext"],
				"env": certificates(len(containers) > 1),
			}
		}
	}
	return json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": spec,
		"metadata": map[string]any{"name": name, "labels": labels, "annotations": d.Spec.Template.Metadata.Annotations},
	})
}

// certificates says where the agent keeps them, if there is one.
func certificates(agent bool) []any {
	if !agent {
		return nil
	}
	return []any{map[string]any{"name": "CERTIFICATES", "value": "/var/lib/istio/data"}}
}

// heard reads all answers.
func heard(log []byte) (all []stranger.Answer, err error) {
	for in := json.NewDecoder(bytes.NewReader(log)); ; {
		var a stranger.Answer
		if err := in.Decode(&a); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("%w: %s", err, log)
		}
		if a == (stranger.Answer{}) {
			return all, nil
		}
		all = append(all, a)
	}
}
