package plane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// CA signs the certificates of workloads, as the mesh's own would.
type CA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewCA makes a new one.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := lasting(time.Now())
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{key, cert}, err
}

func lasting(now time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // rand.Reader does not fail
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

// Names of the files of a certificate.
const (
	fileKey   = "key.pem"
	fileChain = "cert-chain.pem"
	fileRoot  = "root-cert.pem"
)

// Issue writes a key, a certificate of the identity and the CA's own one into a
// folder.
func (ca *CA) Issue(dir, spiffe string) error {
	id, err := url.Parse(spiffe)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := lasting(time.Now())
	template.URIs, template.KeyUsage = []*url.URL{id}, x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, b := range map[string]*pem.Block{
		fileKey: {Type: "PRIVATE KEY", Bytes: keyDER}, fileChain: {Type: "CERTIFICATE", Bytes: der}, fileRoot: {Type: "CERTIFICATE", Bytes: ca.cert.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Certificate returns a certificate of the identity for a client that no control
// plane tells anything.
func (ca *CA) Certificate(spiffe string) (tls.Certificate, error) {
	dir, err := os.MkdirTemp("", "identity")
	if err != nil {
		return tls.Certificate{}, err
	}
	defer os.RemoveAll(dir)
	if err := ca.Issue(dir, spiffe); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(filepath.Join(dir, fileChain), filepath.Join(dir, fileKey))
}

// Node says who a workload is.
type Node struct {
	IP, Name, Namespace, Account string
	Labels                       map[string]string
	// Certificates is the folder of its key and certificate.
	Certificates string
}

// SPIFFE is the node's identity.
func (n Node) SPIFFE() string {
	return fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", n.Namespace, n.Account)
}

// ID is how istiod knows the node.
func (n Node) ID() string {
	return fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", n.IP, n.Name, n.Namespace, n.Namespace)
}

// Metadata is what istiod is told of the node; it takes it for an Envoy.
func (n Node) Metadata() map[string]any {
	labels := map[string]any{}
	for k, v := range n.Labels {
		labels[k] = v
	}
	return map[string]any{
		"NAMESPACE": n.Namespace, "SERVICE_ACCOUNT": n.Account, "INSTANCE_IPS": n.IP,
		"LABELS": labels, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0",
	}
}

// Bootstrap is what a proxyless workload is given to begin with, the content of
// the file that GRPC_XDS_BOOTSTRAP names. xds is where istiod listens.
func (n Node) Bootstrap(xds string) []byte {
	metadata := n.Metadata()
	metadata["GENERATOR"] = "grpc"
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"xds_servers": []any{object{
			"server_uri": xds, "channel_creds": []any{object{"type": "insecure"}}, "server_features": []string{"xds_v3"},
		}},
		"node": object{"id": n.ID(), "metadata": metadata},
		"certificate_providers": object{"default": object{"plugin_name": "file_watcher", "config": object{
			"certificate_file":    filepath.Join(n.Certificates, fileChain),
			"private_key_file":    filepath.Join(n.Certificates, fileKey),
			"ca_certificate_file": filepath.Join(n.Certificates, fileRoot),
			"refresh_interval":    "900s",
		}}},
		"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
	}, "", "  ")
	if err != nil {
		panic(err) // strings and maps always are JSON
	}
	return text
}
