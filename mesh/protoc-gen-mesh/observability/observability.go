// Package observability writes what watches the objectives of the contracts:
// Prometheus' rules, which alert when the budget of an RPC burns too fast, and
// Grafana's dashboards, with a row for each RPC that has an objective.
package observability

import (
	"embed"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

//go:embed *.tmpl
var folder embed.FS

const (
	rulesFile  = "observability/prometheus/rules/slo.yaml"
	dashboards = "observability/grafana/dashboards/"
)

// Target is Prometheus and Grafana. It has no losses: what it can't watch it
// refuses.
func Target() target.Target {
	return target.Target{Name: "observability", Version: "Prometheus 3, Grafana 12", Files: files}
}

func files(s *contract.Shop) ([]target.File, error) {
	watched, err := watch(s)
	if err != nil {
		return nil, err
	}
	rules, err := target.Render(target.Templates(folder, functions), "slo.yaml.tmpl", rulesFile, rulePage{s.Runbook, watched})
	if err != nil {
		return nil, err
	}
	out := []target.File{rules}
	for _, d := range boards(s, watched) {
		file, err := d.file()
		if err != nil {
			return nil, err
		}
		out = append(out, file)
	}
	return out, nil
}
