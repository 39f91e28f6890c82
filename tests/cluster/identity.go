package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// needsIstio fails where there is no control plane for the mode proxyless.
func needsIstio(ctx context.Context) error {
	if _, err := kubectl(ctx, "-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=60s"); err != nil {
		return fmt.Errorf("no istiod is ready; get it by istioctl install, or in the cluster of tools/cluster/up by tools/cluster/istio: %w", err)
	}
	return nil
}

// refuses holds the pods of all services that speak gRPC to answering nobody who
// has no certificate of the mesh, and each service to having its NetworkPolicy.
func (r *run) refuses(ctx context.Context) error {
	var policies struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := read(ctx, &policies, "networkpolicy"); err != nil {
		return err
	}
	there := map[string]bool{}
	for _, p := range policies.Items {
		there[p.Metadata.Name] = true
	}
	all, err := pods(ctx, r.services...)
	if err != nil {
		return err
	}
	asked := 0
	for _, p := range all {
		if !there[p.app()] {
			r.report.violated("identity: %s has no NetworkPolicy", p.app())
		}
		if p.app() == "gateway" {
			continue // it speaks HTTP, to everybody
		}
		for _, with := range strangers {
			answered, err := answers(ctx, p.Metadata.Name, with.creds)
			if err != nil {
				return err
			}
			if answered {
				r.report.violated("identity: %s has answered a stranger %s", p.Metadata.Name, with.name)
			}
			asked++
		}
	}
	r.report.Strangers = asked
	r.say("identity: %d calls of strangers, %d promises broken", asked, len(r.report.Violations))
	return nil
}

// strangers are those who have no identity.
var strangers = []struct {
	name  string
	creds credentials.TransportCredentials
}{
	{"in plaintext", insecure.NewCredentials()},
	{"with no certificate", credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})},
}

// answers reports whether a pod's gRPC port answers a call at all. The error says
// that nobody can tell.
func answers(ctx context.Context, pod string, creds credentials.TransportCredentials) (bool, error) {
	addr, done, err := forward(ctx, "pod/"+pod, "9090")
	if err != nil {
		return false, err
	}
	defer done()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return false, err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: "live"})
	switch {
	case err == nil:
		return true, nil
	case strings.Contains(err.Error(), "connection refused"):
		return false, errors.Join(fmt.Errorf("%s does not listen", pod), err)
	}
	// Any code of the server's own is an answer, too; that nothing could be said is
	// an error of the connection.
	return !strings.Contains(err.Error(), "connection error") && !strings.Contains(err.Error(), "error reading server preface"), nil
}
