// Package certificates writes who has which certificate in a shop without a mesh:
// an account, a SPIFFE id, a Secret. The contracts' callers are those accounts, and
// the process holds to them.
package certificates

import (
	"embed"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

// Target is a part of the shop without a mesh.
func Target() target.Target { return target.Target{Name: "certificates", Files: files} }

func files(s *contract.Shop) ([]target.File, error) {
	f := target.Folder{Path: "mesh/plain/tls/accounts", Templates: target.Templates(folder, nil)}
	f.Render("certificates.yaml.tmpl", "certificates.yaml", s)
	f.Render("kustomization.yaml.tmpl", "kustomization.yaml", s)
	return f.Files()
}
