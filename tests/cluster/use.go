package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Use is what the pods of a service need under the load, at most, and what they
// ask for.
type Use struct {
	CPU    float64 // cores
	Memory float64 // bytes
	Asked  map[string]string
	Image  int64 // bytes, packed, as the node tells it
}

// sample is what a process has used so far.
type sample struct {
	at          time.Time
	cpu, memory float64 // seconds, bytes
}

// measure lets the customers call, and measures what that takes.
func (r *run) measure(ctx context.Context) error {
	all, err := pods(ctx, r.services...)
	if err != nil {
		return err
	}
	before, err := samples(ctx, all)
	if err != nil {
		return err
	}
	if err := pause(ctx, r.cfg.Calm); err != nil {
		return err
	}
	after, err := samples(ctx, all)
	if err != nil {
		return err
	}
	for _, p := range all {
		b, a, u := before[p.Metadata.Name], after[p.Metadata.Name], r.report.use(p.app())
		u.CPU = max(u.CPU, (a.cpu-b.cpu)/a.at.Sub(b.at).Seconds())
		u.Memory = max(u.Memory, a.memory)
	}
	return nil
}

func samples(ctx context.Context, all []pod) (map[string]sample, error) {
	var mu sync.Mutex
	found := map[string]sample{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, p := range all {
		g.Go(func() error {
			s, err := sampleOf(ctx, p.Metadata.Name)
			mu.Lock()
			defer mu.Unlock()
			found[p.Metadata.Name] = s
			return err
		})
	}
	return found, g.Wait()
}

// sampleOf reads the metrics of a pod.
func sampleOf(ctx context.Context, name string) (sample, error) {
	addr, done, err := forward(ctx, "pod/"+name, "9100")
	if err != nil {
		return sample{}, err
	}
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return sample{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return sample{}, err
	}
	defer resp.Body.Close()
	s := sample{at: time.Now()}
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		series, value, _ := strings.Cut(in.Text(), " ")
		metric, _, _ := strings.Cut(series, "{")
		switch n, _ := strconv.ParseFloat(value, 64); metric {
		case "process_cpu_seconds_total":
			s.cpu = n
		case "process_resident_memory_bytes":
			s.memory = n
		}
	}
	if s.cpu == 0 || s.memory == 0 {
		return s, fmt.Errorf("the metrics of %s tell nothing of its process", name)
	}
	return s, nil
}

// images notes how large the services' images are, and what their pods ask for.
func (r *run) images(ctx context.Context) error {
	var nodes struct {
		Items []struct {
			Status struct {
				Images []struct {
					Names     []string
					SizeBytes int64
				}
			}
		}
	}
	text, err := kubectl(ctx, "get", "nodes", "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &nodes); err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			for _, name := range i.Names {
				sizes[name] = i.SizeBytes
			}
		}
	}
	all, err := pods(ctx, r.services...)
	if err != nil {
		return err
	}
	for _, p := range all {
		for _, c := range p.Spec.Containers {
			if c.Name == "service" {
				u := r.report.use(p.app())
				u.Asked, u.Image = c.Resources.Requests, max(u.Image, sizeOf(sizes, c.Image))
			}
		}
	}
	return nil
}

// sizeOf finds an image by its whole name, or without the tag beside its digest.
func sizeOf(sizes map[string]int64, image string) int64 {
	if n := sizes[image]; n > 0 {
		return n
	}
	name, digest, ok := strings.Cut(image, "@")
	if !ok {
		return 0
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return sizes[name+"@"+digest]
}
