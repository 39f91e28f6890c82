package mesh_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/tests/mesh/held"
	"github.com/meshmart/meshmart/tests/mesh/plane"
)

// account is who may be calling: a service account in a namespace.
type account struct{ namespace, name string }

// accounts are all of the shop, and some that no contract names: others of the
// namespace, and the shop's own names in another one.
func accounts(s *contract.Shop) []account {
	var all []account
	for _, name := range append(s.Accounts(), "ingress", "default") {
		all = append(all, account{s.Namespace, name})
	}
	return append(all, account{"elsewhere", s.Edge.Host}, account{"elsewhere", "order"})
}

func TestOnlyTheCallersOfTheContractPass(t *testing.T) {
	m, s := running(t), newSeen()
	each(m.Shop, func(r *contract.RPC) { s.put(r, held.Policy{Callers: callers(t, m, m.CallOf(r))}) })
	report(t, held.Compare(m.Shop, s.all, held.Callers))
	t.Logf("figure: callers, seen in calls: %d pairs of RPC and account", len(m.Shop.RPCs())*len(accounts(m.Shop)))
}

// callers are the accounts whose call is answered. All others must be refused
// with PERMISSION_DENIED, and must not have reached the server.
func callers(t *testing.T, m *plane.Mesh, call plane.Call) []string {
	var passed []string
	for _, a := range accounts(m.Shop) {
		result := client(t, m, a.namespace, a.name).Do(t.Context(), call)
		switch {
		case result.Err == nil && a.namespace == m.Shop.Namespace:
			passed = append(passed, a.name)
		case result.Err == nil:
			passed = append(passed, a.namespace+"/"+a.name)
		case result.Code() != codes.PermissionDenied || len(result.Attempts) > 0:
			t.Errorf("%s by %s: got %v after %d attempts, want PERMISSION_DENIED", call.Method, a, result.Err, len(result.Attempts))
		}
	}
	slices.Sort(passed)
	return passed
}

// Whoever calls a service balances by its health, and nobody else asks for it.
func TestHealthIsForCallers(t *testing.T) {
	m := running(t)
	for _, svc := range m.Shop.Services {
		for method, stream := range map[string]bool{"/grpc.health.v1.Health/Check": false, "/grpc.health.v1.Health/List": false, "/grpc.health.v1.Health/Watch": true} {
			call := plane.Call{Host: m.Shop.FQDN(svc.Host), Port: svc.Port, Method: method, Stream: stream}
			if got, want := callers(t, m, call), svc.Callers(); !slices.Equal(got, want) {
				t.Errorf("%s of %s: answered to %v, want %v", method, svc.Host, got, want)
			}
		}
	}
}

func TestWhatHasNoContractIsClosed(t *testing.T) {
	m := running(t)
	for _, svc := range m.Shop.Services {
		for _, method := range []string{
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/" + svc.Names[0] + "/NoSuchMethod", svc.RPCs[0].Path() + "x",
		} {
			call := plane.Call{Host: m.Shop.FQDN(svc.Host), Port: svc.Port, Method: method}
			if got := callers(t, m, call); len(got) > 0 {
				t.Errorf("%s of %s: answered to %v", method, svc.Host, got)
			}
		}
	}
}

// Every server of the shop takes calls over mutual TLS of the mesh's own CA, and
// no others. The same call with a good certificate passes.
func TestPlaintextAndForeignCertificatesAreRefused(t *testing.T) {
	m := running(t)
	foreign, err := plane.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range m.Shop.Services {
		r := svc.RPCs[0]
		id := "spiffe://" + m.Shop.Principal(r.Callers[0])
		for _, s := range m.ServersOf(svc.Host) {
			addr := fmt.Sprintf("%s:%d", s.Node.IP, svc.Port)
			for _, c := range []struct {
				name  string
				creds credentials.TransportCredentials
				want  codes.Code
			}{
				{"plaintext", insecure.NewCredentials(), codes.Unavailable},
				{"no certificate", shows(t, nil, ""), codes.Unavailable},
				{"a certificate of another CA", shows(t, foreign, id), codes.Unavailable},
				{"a certificate of the mesh", shows(t, m.CA, id), codes.OK},
			} {
				if got := direct(t, addr, c.creds, m.CallOf(r)); got.Code() != c.want {
					t.Errorf("%s with %s: got %v, want %v", s.Node.Name, c.name, got.Err, c.want)
				}
			}
		}
	}
}

// shows are the credentials of a client that trusts everyone, and shows a
// certificate of the CA.
func shows(t *testing.T, ca *plane.CA, spiffe string) credentials.TransportCredentials {
	t.Helper()
	c := &tls.Config{InsecureSkipVerify: true} // whom it calls is not what is tested
	if ca != nil {
		cert, err := ca.Certificate(spiffe)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(c)
}

func direct(t *testing.T, addr string, creds credentials.TransportCredentials, call plane.Call) plane.Result {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithAuthority(call.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	return plane.Do(context.WithoutCancel(t.Context()), cc, call, nil)
}
