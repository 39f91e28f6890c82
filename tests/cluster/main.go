// Command cluster tries the shop in a Kubernetes cluster: it deploys it with
// skaffold, tells its story through the gateway, and then replaces, scales, evicts
// and kills what it is made of while customers call. In the end it checks the books.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: cluster [flags]   (or: make test-cluster ARGS="-rate 40")

Takes the current context of kubectl. With none: kind, minikube, or, on a root
Debian machine, eval "$(tools/cluster/up)" and tools/cluster/load. Run it in the
root of the repository.

Deploys the shop by skaffold, with customers who call it from inside the cluster at
a steady rate and repeat nothing. Then, one after the other:

  identity (proxyless) pods with no identity, and with another service's, are
           refused by every pod; one with the gateway's is answered
  story    orders that are completed, declined and cancelled
  trace    of an order, in Jaeger
  istiod   (proxyless) the control plane is replaced  no call may fail
  rollout  every Deployment, all at the same time     no call may fail
  scale    one replica more of each, and one less     no call may fail
  drain    every pod of the services is evicted       no call may fail
  kill     a pod of each service, with no grace       failed calls are counted
  stores   PostgreSQL and NATS are started again      failed calls are counted
  books    what is in the databases and streams adds up (see tests/audit), and
           every order that was promised is there

A namespace meshmart that is not of such a run is left alone, and that is an error.
Exit code 1: a promise was broken.

`

func main() {
	cfg, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "cluster: %v; see cluster -help\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := Run(ctx, cfg)
	fmt.Print(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		stop()
		os.Exit(1)
	}
}

// Config says what is tried, and how.
type Config struct {
	Mode     string        // plain or proxyless
	Rate     int           // calls a second
	Calm     time.Duration // for which nothing happens, to measure what is used
	Keep     bool          // the shop is left in the cluster
	Only     []string      // of what is done while customers call; none: all of it
	Progress io.Writer
}

func parse(args []string) (Config, error) {
	cfg := Config{Progress: os.Stderr}
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	f.StringVar(&cfg.Mode, "mode", "plain", "plain, or proxyless in a cluster with Istio")
	f.IntVar(&cfg.Rate, "rate", 20, "calls a second; one of four places an order")
	f.DurationVar(&cfg.Calm, "calm", 20*time.Second, "how long nothing happens, to measure what is used")
	only := f.String("only", "", "of what is done while customers call, with commas between: "+strings.Join(phases, ", "))
	f.BoolVar(&cfg.Keep, "keep", false, "leave the shop in the cluster; the next run goes on with it")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if *only != "" {
		cfg.Only = strings.Split(*only, ",")
	}
	unknown := slices.IndexFunc(cfg.Only, func(name string) bool { return !slices.Contains(phases, name) })
	switch {
	case f.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case profiles[cfg.Mode] == "":
		return cfg, fmt.Errorf("-mode: %q is neither plain nor proxyless", cfg.Mode)
	case cfg.Rate < 1 || cfg.Rate > 1000:
		return cfg, fmt.Errorf("-rate: %d is not between 1 and 1000", cfg.Rate)
	case unknown >= 0:
		return cfg, fmt.Errorf("-only: %q is none of %v", cfg.Only[unknown], phases)
	case cfg.Calm <= 0:
		return cfg, fmt.Errorf("-calm: %v is not positive", cfg.Calm)
	}
	return cfg, nil
}
