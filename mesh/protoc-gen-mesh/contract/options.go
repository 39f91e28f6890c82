package contract

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	meshpb "github.com/meshmart/meshmart/proto/mesh/v1"
)

// Options are what the contracts do not say: where the shop runs and what else
// is there. They are the plugin's options, in buf.gen.mesh.yaml.
type Options struct {
	// Namespace is where all of it runs.
	Namespace string
	// TrustDomain is that of the mesh's identities.
	TrustDomain string
	// Edge is what serves the public REST routes. It has no contract of its own.
	Edge Edge
	// Backends are the stores and brokers, by host.
	Backends []Backend
	// Issuer and Audience are what every token of the shop says.
	Issuer, Audience string
	// Keys is the public route of the keys that the tokens are signed with.
	Keys string
	// Root is the folder of the .proto files in the repository.
	Root string
	// Runbook is where people read what to do about an alert.
	Runbook string
}

// Edge is the service that turns REST into gRPC.
type Edge struct {
	Host string
	Port uint32
}

// Backend is a store or a broker: not gRPC, and without a contract.
type Backend struct {
	Host string
	Port uint32
	// Users are the service accounts that use it, sorted.
	Users []string
}

// Flags registers the options, with their defaults set.
func (o *Options) Flags(fs *flag.FlagSet) {
	fs.StringVar(&o.Namespace, "namespace", "meshmart", "where the shop runs")
	fs.StringVar(&o.TrustDomain, "trust_domain", "cluster.local", "of the mesh's identities")
	fs.StringVar(&o.Issuer, "issuer", "", "of the tokens")
	fs.StringVar(&o.Audience, "audience", "", "of the tokens")
	fs.StringVar(&o.Keys, "keys", "/.well-known/jwks.json", "public route of the keys of the tokens")
	fs.StringVar(&o.Root, "root", "proto", "folder of the .proto files")
	fs.StringVar(&o.Runbook, "runbook", "https://github.com/meshmart/meshmart/blob/main/docs/runbook.md", "where people read what to do about an alert")
	fs.Func("edge", "HOST:PORT of what serves the public routes", func(v string) error {
		var err error
		o.Edge.Host, o.Edge.Port, err = hostPort(v)
		return err
	})
	fs.Func("backend", "HOST:PORT:USER+USER of a store or broker; repeated", o.addBackend)
}

func (o *Options) addBackend(v string) error {
	i := strings.LastIndexByte(v, ':')
	if i < 0 {
		return fmt.Errorf("backend %q: not HOST:PORT:USER+USER", v)
	}
	host, port, err := hostPort(v[:i])
	if err != nil {
		return err
	}
	users := strings.Split(v[i+1:], "+")
	slices.Sort(users)
	o.Backends = append(o.Backends, Backend{Host: host, Port: port, Users: users})
	slices.SortFunc(o.Backends, func(a, b Backend) int { return strings.Compare(a.Host, b.Host) })
	return nil
}

func hostPort(v string) (string, uint32, error) {
	host, text, _ := strings.Cut(v, ":")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || host == "" || port == 0 {
		return "", 0, fmt.Errorf("%q is not HOST:PORT", v)
	}
	return host, uint32(port), nil
}

// check tells which options are missing, or name what is not there.
func (s *Shop) check() []error {
	var errs []error
	for name, value := range map[string]string{"edge": s.Edge.Host, "issuer": s.Issuer, "audience": s.Audience} {
		if value == "" {
			errs = append(errs, fmt.Errorf("option %s is missing", name))
		}
	}
	if !slices.ContainsFunc(s.RPCs(), s.servesKeys) {
		errs = append(errs, fmt.Errorf("option keys=%s: no public RPC has the route GET %s", s.Keys, s.Keys))
	}
	for _, b := range s.Backends {
		for _, user := range b.Users {
			if !slices.Contains(s.Accounts(), user) {
				errs = append(errs, fmt.Errorf("option backend=%s: its user %q does not exist", b.Host, user))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

func (s *Shop) servesKeys(r *RPC) bool {
	return r.Access == meshpb.Access_ACCESS_PUBLIC && slices.Contains(r.Routes, Route{http.MethodGet, s.Keys})
}

var errNoServices = errors.New("no file to generate from has a service")
