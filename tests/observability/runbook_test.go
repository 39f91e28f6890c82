package observability

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

// anchors are the headings of a document, as GitHub links them.
func anchors(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), path))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		drop := func(r rune) rune {
			if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) {
				return r
			}
			return -1
		}
		out[strings.Map(drop, strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"))] = true
	}
	return out
}

// Whoever is woken by an alert must find what to do: every alert links a section of
// the runbook that is there, and names a dashboard that is there.
func TestEveryAlertLinksTheRunbook(t *testing.T) {
	sections, uids := anchors(t, "docs/runbook.md"), map[string]bool{}
	for _, d := range dashboards(t) {
		uids[d.UID] = true
	}
	used := map[string]bool{}
	for _, file := range []string{generated, written} {
		for _, g := range ruleFile(t, file).Groups {
			for _, r := range g.Rules {
				if r.Alert == "" {
					continue
				}
				u, err := url.Parse(r.Annotations["runbook_url"])
				if err != nil || !strings.HasSuffix(u.Path, "/docs/runbook.md") || !sections[u.Fragment] {
					t.Errorf("%s: %s: no section %q of the runbook", g.Name, r.Alert, r.Annotations["runbook_url"])
					continue
				}
				used[u.Fragment] = true
				uid := strings.TrimPrefix(r.Annotations["dashboard"], "/d/")
				if before, _, of := strings.Cut(uid, "{{"); of {
					uid = before + "order"
				}
				if !uids[uid] || r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%s: %s: dashboard %q, labels %v, annotations %v", g.Name, r.Alert, uid, r.Labels, r.Annotations)
				}
			}
		}
	}
	for section := range sections {
		if !used[section] && section != "runbook" && section != "how-to-look" {
			t.Errorf("docs/runbook.md#%s is of no alert", section)
		}
	}
}

// A section says what it means, what people see, where to look, and what to do.
func TestSectionsOfTheRunbookAreWhole(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(), "docs/runbook.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		if name == "How to look" {
			continue
		}
		for _, part := range []string{"**Means.**", "**People see**", "**Look at**", "do"} {
			if !strings.Contains(strings.ToLower(body), strings.ToLower(part)) {
				t.Errorf("%s has no %s", name, part)
			}
		}
	}
}

// dashboard is what is read of one.
type dashboard struct {
	UID    string
	Title  string
	Panels []struct {
		Title, Type string
		Targets     []struct{ Expr string }
	}
	file string
}

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(), "observability/grafana/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out []dashboard
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, d)
	}
	return out
}
