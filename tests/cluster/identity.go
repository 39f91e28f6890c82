package main

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/meshmart/meshmart/tests/cluster/load/stranger"
)

// needsIstio fails where there is no control plane for the mode proxyless.
func needsIstio(ctx context.Context) error {
	if _, err := kubectl(ctx, "-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=60s"); err != nil {
		return fmt.Errorf("no istiod is ready; get it by istioctl install, or in the cluster of tools/cluster/up by tools/cluster/istio: %w", err)
	}
	return nil
}

// asked are an RPC of each service that the gateway may call, for a user, and
// nobody else of the shop.
var asked = map[string]string{
	"product": "product.v1.ProductService/GetProduct", "user": "user.v1.UserService/GetUser",
	"inventory": "inventory.v1.InventoryService/GetStock", "order": "order.v1.OrderService/GetOrder",
	"payment": "payment.v1.PaymentService/GetPayment", "greeter": "greeter.v1.GreetingService/Greet",
}

// fenced is what no pod of another namespace may reach, by a NetworkPolicy.
const fenced = "postgres." + shopSpace + ":5432"

// refuses has three pods call every pod that speaks gRPC: one without an identity
// and one with another service's get nothing, and one with the gateway's does, so
// that it is the identity that they lack. Each service must have its NetworkPolicy.
func (r *run) refuses(ctx context.Context) error {
	targets, err := r.fencedOff(ctx)
	if err != nil {
		return err
	}
	image, err := kubectl(ctx, "-n", loadSpace, "get", "deployment", "load", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	if err != nil {
		return err
	}
	for _, who := range []struct{ space, like string }{{loadSpace, "load"}, {shopSpace, "greeter"}, {shopSpace, "gateway"}} {
		questions := targets
		if who.like == "load" {
			questions = append(slices.Clone(targets), fenced)
		}
		answers, err := ask(ctx, who.space, who.like, string(image), questions)
		if err != nil {
			return fmt.Errorf("a pod like %s: %w", who.like, err)
		}
		for _, a := range answers {
			r.judge(who.like, a)
		}
	}
	r.say("identity: %d calls without one, %d with another's, %d with the right one; %d promises broken",
		r.report.Identity["load"], r.report.Identity["greeter"], r.report.Identity["gateway"], len(r.report.Violations))
	return nil
}

// judge notes what came of a question.
func (r *run) judge(who string, a stranger.Answer) {
	unreachable := a.Code == codes.Unavailable || a.Code == codes.DeadlineExceeded
	if a.How == stranger.Connection {
		r.report.Fenced = unreachable
		return
	}
	r.report.asked(who)
	switch {
	case who == "gateway" && (a.Code == codes.PermissionDenied || unreachable):
		r.report.violated("identity: %s has refused the gateway: %s", a.Target, a.Error)
	case who == "greeter" && a.Code != codes.PermissionDenied && !(unreachable && r.report.Fenced):
		r.report.violated("identity: %s has answered the greeter with %v: %s", a.Target, a.Code, a.Error)
	case who == "load" && !unreachable:
		r.report.violated("identity: %s has answered a stranger %s with %v: %s", a.Target, a.How, a.Code, a.Error)
	}
}

// fencedOff returns what is asked, of each pod that speaks gRPC.
func (r *run) fencedOff(ctx context.Context) (targets []string, err error) {
	var policies struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := read(ctx, &policies, "networkpolicy"); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, p := range policies.Items {
		there[p.Metadata.Name] = true
	}
	all, err := pods(ctx, r.services...)
	for _, p := range all {
		if !there[p.app()] {
			r.report.violated("identity: %s has no NetworkPolicy", p.app())
		}
		if method, ok := asked[p.app()]; ok { // the gateway speaks HTTP, to everybody
			targets = append(targets, p.Status.PodIP+":9090/"+method)
		}
	}
	if err == nil && len(targets) < len(asked) {
		err = fmt.Errorf("%d pods speak gRPC", len(targets))
	}
	return targets, err
}
