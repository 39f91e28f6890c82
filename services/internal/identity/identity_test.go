package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshmart/meshmart/tests/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const orders = "spiffe://cluster.local/ns/shop/sa/order"

func config(f certs.Files) Config {
	return Config{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, TrustDomain: "cluster.local", Namespace: "shop",
		Service: "order", Log: slog.New(slog.DiscardHandler), Every: 5 * time.Millisecond}
}

func TestWhatIsWrongWithTheFilesIsTold(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	tests := map[string]struct {
		spoil func(f certs.Files)
		want  []string // in the error; none: there is no error
	}{
		"nothing":                   {func(certs.Files) {}, nil},
		"no certificate":            {func(f certs.Files) { os.Remove(f.Cert) }, []string{"TLS_CERT_FILE", "tls.crt", "no such file"}},
		"no key":                    {func(f certs.Files) { os.Remove(f.Key) }, []string{"TLS_KEY_FILE", "tls.key"}},
		"no authority":              {func(f certs.Files) { os.Remove(f.CA) }, []string{"TLS_CA_FILE", "ca.crt"}},
		"a folder":                  {func(f certs.Files) { os.Remove(f.CA); os.Mkdir(f.CA, 0o700) }, []string{"TLS_CA_FILE", "is a directory"}},
		"an empty file":             {func(f certs.Files) { certs.Write(t, f.Key, nil) }, []string{"TLS_KEY_FILE", "is empty"}},
		"an authority that is none": {func(f certs.Files) { certs.Write(t, f.CA, []byte("x")) }, []string{"TLS_CA_FILE", "no certificate"}},
		"the key of another one":    {func(f certs.Files) { _, key := ca.Issue(t, orders); certs.Write(t, f.Key, key) }, []string{"TLS_CERT_FILE", "TLS_KEY_FILE", "match"}},
		"one that has ended":        {func(f certs.Files) { f.Take(t, ca, orders, certs.Ended) }, []string{"TLS_CERT_FILE", "has ended"}},
		"another service's":         {func(f certs.Files) { f.Take(t, ca, "spiffe://cluster.local/ns/shop/sa/user") }, []string{"TLS_CERT_FILE", "sa/user", orders}},
		"of another namespace":      {func(f certs.Files) { f.Take(t, ca, "spiffe://cluster.local/ns/other/sa/order") }, []string{"TLS_CERT_FILE", "POD_NAMESPACE"}},
		"of another trust domain":   {func(f certs.Files) { f.Take(t, ca, "spiffe://b/ns/shop/sa/order") }, []string{"SPIFFE_TRUST_DOMAIN"}},
		"nobody's":                  {func(f certs.Files) { f.Take(t, ca, "") }, []string{`SPIFFE id is ""`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := certs.NewFiles(t)
			f.Take(t, ca, orders)
			f.Trust(t, ca)
			tt.spoil(f)
			i, err := Load(config(f))
			if err == nil {
				i.Close()
			}
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %q", err, w)
				}
			}
		})
	}
}

// What is not mutual needs no SPIFFE id: nobody would look for it.
func TestWithoutAuthoritiesAnyCertificateWillDo(t *testing.T) {
	f := certs.NewFiles(t)
	f.Take(t, certs.NewCA(t, "shop"), "")
	cfg := config(f)
	cfg.CAFile = ""
	i, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if i.Mutual() {
		t.Error("it is mutual")
	}
}

func TestNewFilesAreTakenAndUselessOnesToldOfOnce(t *testing.T) {
	old, next := certs.NewCA(t, "old"), certs.NewCA(t, "next")
	f, log := certs.NewFiles(t), &lines{}
	f.Take(t, old, orders)
	f.Trust(t, old)
	cfg := config(f)
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	i, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	first := serial(t, i)

	certs.Write(t, f.Key, []byte("SECRET"))
	later(t, "a line of it", func() bool { return log.count("can't be used") == 1 })
	f.Take(t, next, orders)
	f.Trust(t, old, next)
	later(t, "the new one", func() bool { return serial(t, i) != first && log.count("has changed") > 0 })
	if n := log.count("SECRET"); n > 0 {
		t.Error("the key is in the log")
	}

	os.Remove(f.CA)
	later(t, "a line of that", func() bool { return log.count("TLS_CA_FILE") > 0 })
	was := serial(t, i)
	f.Take(t, next, orders)
	f.Trust(t, next)
	later(t, "the third", func() bool { return serial(t, i) != was })
	if n := log.count("TLS_CA_FILE"); n != 1 {
		t.Errorf("%d lines of one file that is missing", n)
	}
}

func serial(t *testing.T, i *Identity) string {
	t.Helper()
	km, err := (provider{i}).KeyMaterial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(km.Certs[0].Leaf.SerialNumber)
}

func later(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.all.String(), s)
}

func TestAnAccountIsTheWholeRestOfAnID(t *testing.T) {
	i := &Identity{cfg: Config{TrustDomain: "cluster.local", Namespace: "shop"}}
	for id, want := range map[string]string{
		orders: "order",
		"spiffe://cluster.local/ns/shop/sa/order/x": "",
		"spiffe://cluster.local/ns/shops/sa/order":  "",
		"spiffe://cluster.local.b/ns/shop/sa/order": "",
		"spiffe://cluster.local/ns/shop/sa/":        "",
		"":                                          "",
	} {
		if got := i.account(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}

func TestACertificateOfSeveralIsNobodys(t *testing.T) {
	ca := certs.NewCA(t, "shop")
	for name, tt := range map[string]struct {
		change certs.Change
		want   string
	}{
		"one id":        {func(*x509.Certificate) {}, orders},
		"two ids":       {func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, ""},
		"another's URI": {func(c *x509.Certificate) { c.URIs[0].Scheme = "https" }, ""},
	} {
		text, _ := ca.Issue(t, orders, tt.change)
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := spiffeID(c); got != tt.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
