// Package network writes NetworkPolicies: which pods may speak to which. They
// hold with every mesh and without one, where the network plugin executes them.
package network

import (
	"embed"
	"slices"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

// Target is Kubernetes' own NetworkPolicy.
func Target() target.Target {
	return target.Target{Name: "network", Version: "networking.k8s.io/v1", Files: files, Losses: losses}
}

// page is what a template is given.
type page struct {
	Shop    *contract.Shop
	Account string
	In, Out []peer
}

// peer is who is at the other end, "" for anyone, and what says so.
type peer struct {
	Host    string
	Port    uint32
	Because string
}

func files(s *contract.Shop) ([]target.File, error) {
	f := target.Folder{Path: "mesh/network", Templates: target.Templates(folder, nil)}
	f.Render("base.yaml.tmpl", "policy/namespace.yaml", page{Shop: s})
	for _, account := range s.Accounts() {
		f.Render("account.yaml.tmpl", "policy/"+account+".yaml", page{Shop: s, Account: account, In: callers(s, account), Out: callees(s, account)})
	}
	for _, b := range s.Backends {
		f.Render("account.yaml.tmpl", "policy/"+b.Host+".yaml", page{Shop: s, Account: b.Host, In: users(b)})
	}
	f.List("policy")
	return f.Files()
}

func callers(s *contract.Shop, account string) []peer {
	var in []peer
	if account == s.Edge.Host {
		in = append(in, peer{"", s.Edge.Port, "the public routes"})
	}
	if svc := s.Service(account); svc != nil {
		for _, c := range svc.Callers() {
			in = append(in, peer{c, svc.Port, target.Names(svc.For(c))})
		}
	}
	return in
}

func callees(s *contract.Shop, account string) []peer {
	var out []peer
	for _, svc := range s.Callees(account) {
		out = append(out, peer{svc.Host, svc.Port, target.Names(svc.For(account))})
	}
	for _, b := range s.BackendsOf(account) {
		out = append(out, peer{b.Host, b.Port, "backend " + b.Host})
	}
	return out
}

func users(b contract.Backend) []peer {
	var in []peer
	for _, user := range b.Users {
		in = append(in, peer{user, b.Port, "backend " + b.Host})
	}
	return in
}

func losses(s *contract.Shop) []target.Loss {
	l4 := "A NetworkPolicy knows pods and ports, and nothing of what is said."
	all := s.RPCs()
	partly := target.With(s, func(r *contract.RPC) bool { return !slices.Equal(r.Callers, s.ServiceOf(r).Callers()) })
	return []target.Loss{
		{Policy: "callers, by RPC", RPCs: partly, Why: l4 + " Whoever calls one RPC of a service reaches all of them.", Instead: "The mesh. Without one, the user's token that the process asks for; and where access is internal, nothing."},
		{Policy: "callers, by identity", RPCs: all, Why: "A pod is known by its labels and its address, and nothing is encrypted.", Instead: "The mesh: mutual TLS."},
		{Policy: "access", RPCs: all, Why: l4, Instead: "The process, and the mesh."},
		{Policy: "timeout", RPCs: target.With(s, func(r *contract.RPC) bool { return r.Timeout > 0 }), Why: l4, Instead: "The client's side in the process: a deadline on every call; and the mesh."},
		{Policy: "retry", RPCs: target.With(s, (*contract.RPC).Retried), Why: l4, Instead: "The mesh; without one, the gRPC service config."},
		target.NoRate(s, l4),
		target.NoSLO(s),
		{Policy: "probes", Why: "The address that the kubelet asks from is not the same everywhere, and so is not named.", Instead: "Network plugins let a node reach its own pods, as Kubernetes expects of them."},
	}
}
