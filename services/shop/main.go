package shop

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"github.com/meshmart/meshmart/services/gateway"
	"github.com/meshmart/meshmart/services/internal/app"
)

// Main is the program shop.
func Main() {
	start := time.Now()
	app.MainFunc("shop", usage, func(ctx context.Context) error {
		environ := app.Environ()
		return Run(ctx, Options{Environ: environ, Ready: func(http net.Addr) {
			welcome(os.Stdout, environ, http, time.Since(start))
		}})
	})
}

func usage(w io.Writer) {
	var all []app.Service
	for _, t := range tiers(gateway.Options{}) {
		for _, svc := range t {
			all = append(all, svc.Service)
		}
	}
	app.Help(w, "shop", "the whole shop in one process, with nothing else to install", all...)
	fmt.Fprintln(w, "\nA variable with a service's name in front is for that service alone: ORDER_LOG_LEVEL=debug.")
}

// welcome tells people where the shop is, once it is ready.
func welcome(w io.Writer, environ map[string]string, http net.Addr, took time.Duration) {
	fmt.Fprintf(w, "\nmeshmart is ready (%d ms)\n\n", took.Milliseconds())
	t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
	base := baseURL(http)
	fmt.Fprintf(t, "  console\t%s/\n  API\t%s/docs\n", base, base)
	for _, tier := range tiers(gateway.Options{}) {
		for _, svc := range tier {
			if svc.port != "" {
				fmt.Fprintf(t, "  %s\tgrpc %s\n", svc.Name, environOf(svc.Name, svc.port, environ)["GRPC_ADDR"])
			}
		}
	}
	fmt.Fprintf(t, "  data\t%s\n\n", cmp.Or(environ["DATA_DIR"], "./data"))
	t.Flush()
}

// baseURL is where a browser on this machine finds an address.
func baseURL(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "http://" + addr.String()
	}
	if tcp.IP.IsUnspecified() || tcp.IP.IsLoopback() {
		return fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	return "http://" + tcp.String()
}
