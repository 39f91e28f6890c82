// Command kubestub is a Kubernetes API of given objects, with istiod as its
// child, so that one container is a whole control plane:
//
//	kubestub -objects FILE -definitions FILE -kubeconfig FILE -- /pilot-discovery discovery ...
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"

	"github.com/meshmart/meshmart/tests/mesh/kubestub"
)

func main() {
	objects := flag.String("objects", "", "YAML `file` of the objects to begin with")
	definitions := flag.String("definitions", "", "YAML `file` of CustomResourceDefinitions")
	kubeconfig := flag.String("kubeconfig", "", "`file` to write for the child")
	addr := flag.String("addr", ":6080", "where the API listens")
	flag.Parse()
	if err := serve(*addr, *definitions, *objects, *kubeconfig); err != nil {
		log.Fatal(err)
	}
	child := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	log.Fatal(child.Run())
}

func serve(addr, definitions, objects, kubeconfig string) error {
	crds, err := os.ReadFile(definitions)
	if err != nil {
		return err
	}
	s, err := kubestub.New(crds)
	if err != nil {
		return fmt.Errorf("%s: %w", definitions, err)
	}
	text, err := os.ReadFile(objects)
	if err != nil {
		return err
	}
	all, err := kubestub.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", objects, err)
	}
	s.Replace(all)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() { log.Fatal(http.Serve(l, s)) }()
	return os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: stub, cluster: {server: "http://127.0.0.1:%d"}}]
users: [{name: stub, user: {}}]
contexts: [{name: stub, context: {cluster: stub, user: stub}}]
current-context: stub
`, l.Addr().(*net.TCPAddr).Port), 0o600)
}
