// Command newservice writes a whole new service into the tree: its contract, its
// package with tests, its program, and its place in the all-in-one, in the gateway,
// in the manifests, in the tests and in README.md. `make new-service NAME=parcel`
// runs it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

const help = `Usage: make new-service NAME=parcel
       go run ./tools/newservice -name parcel

Writes a service that keeps parcels: proto/parcel, services/parcel with its tests,
services/cmd/parcel, its manifests, and all the lines that other files need to know
of it; then runs tools/generate. Nothing is written unless all of it can be. What it
writes is yours: change it into what you need.

`

func main() {
	flags := flag.NewFlagSet("newservice", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), help)
		flags.PrintDefaults()
	}
	name := flags.String("name", "", "what the service is called (NAME of make): one thing of what it keeps, such as parcel")
	if err := flags.Parse(os.Args[1:]); errors.Is(err, flag.ErrHelp) {
		return
	} else if err != nil {
		os.Exit(2)
	}
	if flags.NArg() > 0 {
		flags.Usage()
		os.Exit(2)
	}
	if err := run(".", *name, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "newservice:", err)
		os.Exit(1)
	}
}

// run writes the service into the tree at root and has the rest generated.
func run(root, name string, out io.Writer) error {
	if _, err := os.Stat(filepath.Join(root, "tools", "newservice")); err != nil {
		return errors.New("run it in the folder of the repository")
	}
	s, err := newService(root, name)
	if err != nil {
		return fmt.Errorf("-name %q: %w", name, err)
	}
	changes, err := s.changes(root)
	if err != nil {
		return fmt.Errorf("nothing is written, as a place for the new service is not as expected:\n%w", err)
	}
	// It also builds what generates, which may fail where a download does.
	fmt.Fprintln(out, "generating what follows from the contracts that are there ...")
	if err := generate(root, out); err != nil {
		return fmt.Errorf("%w; nothing is written", err)
	}
	for _, c := range changes {
		if err := c.write(root); err != nil {
			return err
		}
		fmt.Fprintln(out, c)
	}
	fmt.Fprintln(out, "\ngenerating what follows from the new contract ...")
	if err := generate(root, out); err != nil {
		return fmt.Errorf("%w; what was written is told by git status: run make generate again, or take it away", err)
	}
	fmt.Fprint(out, s.named(next))
	return nil
}

func generate(root string, out io.Writer) error {
	cmd := exec.Command("tools/generate")
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tools/generate: %w", err)
	}
	return nil
}

// next is what somebody does with a new gadget service.
const next = `
The gadget service is there. Try it:

  go test ./services/gadget   its tests, on SQLite and PostgreSQL
  make run                    the shop with it: http://localhost:8080/docs

  curl localhost:8080/v1/gadgets -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{"name": "my first", "request_id": "5b5b8a0f-6c0e-4a3e-9a55-3f0c7e0a6f21"}'

docs/new-service.md goes on from here.
`
