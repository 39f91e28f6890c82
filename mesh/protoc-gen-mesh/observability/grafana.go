package observability

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

// The types are those of Grafana's JSON, as far as it is used.
type (
	dashboard struct {
		UID           string     `json:"uid"`
		Title         string     `json:"title"`
		Tags          []string   `json:"tags"`
		SchemaVersion int        `json:"schemaVersion"`
		Editable      bool       `json:"editable"`
		Tooltip       int        `json:"graphTooltip"` // 1: the crosshair is in all panels
		Refresh       string     `json:"refresh"`
		Time          timeRange  `json:"time"`
		Templating    templating `json:"templating"`
		Links         []link     `json:"links"`
		Panels        []*panel   `json:"-"` // file writes them

		about string // becomes the description
		next  int    // the first free line of the grid
		row   string // the title of the row that is filled
	}
	timeRange struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	templating struct {
		List []variable `json:"list"`
	}
	variable struct {
		Name  string `json:"name"`
		Label string `json:"label"`
		Type  string `json:"type"`
		Query string `json:"query"`
	}
	link struct {
		Title       string   `json:"title"`
		Type        string   `json:"type"`
		Tags        []string `json:"tags,omitempty"`
		AsDropdown  bool     `json:"asDropdown,omitempty"`
		IncludeVars bool     `json:"includeVars,omitempty"`
		KeepTime    bool     `json:"keepTime,omitempty"`
		URL         string   `json:"url,omitempty"`
		Blank       bool     `json:"targetBlank,omitempty"`
	}
	panel struct {
		ID          uint32         `json:"id"`
		Type        string         `json:"type"`
		Title       string         `json:"title"`
		Description string         `json:"description,omitempty"`
		GridPos     gridPos        `json:"gridPos"`
		Datasource  *datasource    `json:"datasource,omitempty"`
		Targets     []query        `json:"targets,omitempty"`
		FieldConfig *fieldConfig   `json:"fieldConfig,omitempty"`
		Options     map[string]any `json:"options,omitempty"`
		Transforms  []transform    `json:"transformations,omitempty"`
	}
	gridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	query struct {
		RefID    string `json:"refId"`
		Expr     string `json:"expr"`
		Legend   string `json:"legendFormat,omitempty"`
		Exemplar bool   `json:"exemplar,omitempty"`
		Instant  bool   `json:"instant,omitempty"`
		Range    bool   `json:"range,omitempty"`
		Format   string `json:"format,omitempty"`
	}
	fieldConfig struct {
		Defaults  field `json:"defaults"`
		Overrides []any `json:"overrides"`
	}
	field struct {
		Unit       string         `json:"unit,omitempty"`
		Min        *float64       `json:"min,omitempty"`
		Max        *float64       `json:"max,omitempty"`
		Custom     map[string]any `json:"custom,omitempty"`
		Thresholds *thresholds    `json:"thresholds,omitempty"`
		Mappings   []any          `json:"mappings,omitempty"`
	}
	thresholds struct {
		Mode  string `json:"mode"`
		Steps []step `json:"steps"`
	}
	step struct {
		Color string   `json:"color"`
		Value *float64 `json:"value"` // nil: from the lowest on
	}
	transform struct {
		ID      string         `json:"id"`
		Options map[string]any `json:"options"`
	}
)

const tag = "meshmart"

// newDashboard is without panels. Its name is its file's, and in its uid.
func newDashboard(name, title, about, runbook string) *dashboard {
	return &dashboard{
		UID: tag + "-" + name, Title: title, Tags: []string{tag}, SchemaVersion: 42, Tooltip: 1,
		Refresh: "30s", Time: timeRange{"now-1h", "now"},
		Templating: templating{[]variable{{"datasource", "Prometheus", "datasource", "prometheus"}}},
		Links: []link{
			{Title: "Dashboards", Type: "dashboards", Tags: []string{tag}, AsDropdown: true, IncludeVars: true, KeepTime: true},
			{Title: "Runbook", Type: "link", URL: runbook, Blank: true},
		},
		about: about,
	}
}

// file is the dashboard's, with a line for each panel. JSON has no comments: the
// header is in the description, which is in the first line.
func (d *dashboard) file() (target.File, error) {
	path := dashboards + d.UID[len(tag)+1:] + ".json"
	rest, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return target.File{}, fmt.Errorf("%s: %w", path, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{ %q: %q,%s,\n %q: [", "description", d.about+" "+target.Header, bytes.TrimSuffix(rest[1:], []byte("\n}")), "panels")
	for i, p := range d.Panels {
		line, err := compact(p)
		if err != nil {
			return target.File{}, fmt.Errorf("%s: %s: %w", path, p.Title, err)
		}
		fmt.Fprintf(&b, "%s\n  %s", []string{"", ","}[min(i, 1)], line)
	}
	b.WriteString("\n ]\n}\n")
	return target.File{Path: path, Content: b.Bytes()}, nil
}

// compact writes PromQL's <, > and & as they are.
func compact(p *panel) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(p)
	return bytes.TrimSpace(b.Bytes()), err
}

// section begins a row.
func (d *dashboard) section(title, about string) {
	d.row = title
	p := &panel{ID: d.id(""), Type: "row", Title: title, Description: about, GridPos: gridPos{1, 24, 0, d.next}}
	d.Panels = append(d.Panels, p)
	d.next++
}

// add puts panels beside each other. Each is as wide as its weight.
func (d *dashboard) add(height int, panels ...weighted) {
	all := 0
	for _, w := range panels {
		all += w.weight
	}
	x, seen := 0, 0
	for _, w := range panels {
		seen += w.weight
		end := 24 * seen / all
		w.ID, w.GridPos = d.id(w.Title), gridPos{height, end - x, x, d.next}
		w.Datasource = &datasource{"prometheus", "${datasource}"}
		d.Panels = append(d.Panels, w.panel)
		x = end
	}
	d.next += height
}

type weighted struct {
	weight int
	*panel
}

// id follows from what a panel is called, so that links to it stay when others come
// and go. A test sees to it that no two are the same.
func (d *dashboard) id(title string) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", d.UID, d.row, title)
	return h.Sum32()>>1 | 1
}
