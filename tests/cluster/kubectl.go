package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

const (
	shopSpace = "meshmart"
	loadSpace = "meshmart-test"
	// hang is longer than anything here takes.
	hang = 5 * time.Minute
)

// kubectl runs a command on the current context. What it says goes into the error.
func kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return kubectlIn(ctx, "", args...)
}

func kubectlIn(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return out.Bytes(), nil
}

// read gets objects of the shop's namespace.
func read(ctx context.Context, out any, args ...string) error {
	text, err := kubectl(ctx, append([]string{"-n", shopSpace, "get", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// pod is what matters of one here.
type pod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp string
		Labels            map[string]string
	}
	Spec struct {
		Containers []struct {
			Name, Image string
			Resources   struct{ Requests map[string]string }
		}
	}
	Status struct {
		PodIP             string
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct {
			Name         string
			RestartCount int
		}
	}
}

func (p *pod) app() string { return p.Metadata.Labels["app"] }

func (p *pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True" && p.Metadata.DeletionTimestamp == ""
		}
	}
	return false
}

// pods returns those of some apps, also those that are about to end.
func pods(ctx context.Context, apps ...string) ([]pod, error) {
	var list struct{ Items []pod }
	err := read(ctx, &list, "pods", "-l", "app in ("+strings.Join(apps, ",")+")")
	return list.Items, err
}

// forward opens a way to a port of a pod or service, such as svc/postgres, from
// here: HOST:PORT. It is that of one pod, and ends with it. The caller closes it.
func forward(ctx context.Context, target, port string) (addr string, done func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "kubectl", "-n", shopSpace, "port-forward", "--address", "127.0.0.1", target, ":"+port)
	out, err := cmd.StdoutPipe()
	var said bytes.Buffer
	cmd.Stderr = &said
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("forward %s: %w", target, err)
	}
	done = func() { cancel(); _ = cmd.Wait() }
	limit := time.AfterFunc(20*time.Second, cancel)
	first, err := bufio.NewReader(out).ReadString('\n')
	if !limit.Stop() || err != nil {
		done()
		return "", nil, fmt.Errorf("forward %s: %w: %s", target, err, bytes.TrimSpace(said.Bytes()))
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
	m := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(first)
	if m == "" {
		done()
		return "", nil, fmt.Errorf("forward %s: it says %q", target, first)
	}
	return m, done, nil
}

// until calls fn until it returns nil, for as long as hang at most.
func until(ctx context.Context, every time.Duration, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(every):
		}
	}
}
