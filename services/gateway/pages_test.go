package gateway

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

func TestPagesAreServedWhole(t *testing.T) {
	s := start(t, nil)
	for path, want := range map[string][2]string{
		"/":                  {"text/html; charset=utf-8", "<title>meshmart</title>"},
		"/docs":              {"text/html; charset=utf-8", "<title>meshmart API</title>"},
		"/openapi.json":      {"application/json", `"swagger": "2.0"`},
		"/console/app.js":    {"text/javascript; charset=utf-8", "import"},
		"/console/style.css": {"text/css; charset=utf-8", "light-dark"},
		"/console/icon.svg":  {"image/svg+xml", "<svg"},
		"/healthz":           {"text/plain; charset=utf-8", "ok"},
		"/readyz":            {"text/plain; charset=utf-8", "ok"},
	} {
		r := s.do("GET", path, "")
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != want[0] || !strings.Contains(r.body, want[1]) {
			t.Errorf("%s: got %d %s %.60q", path, r.StatusCode, r.Header.Get("Content-Type"), r.body)
		}
	}
}

func TestFileThatIsTheSameIsNotSentAgain(t *testing.T) {
	s := start(t, nil)
	etag := s.do("GET", "/console/app.js", "").Header.Get("ETag")
	if r := s.do("GET", "/console/app.js", "", "If-None-Match: "+etag); etag == "" || r.StatusCode != 304 || r.body != "" {
		t.Errorf("got %d %q", r.StatusCode, r.body)
	}
}

// The content security policy would stop these in the browser; here they are
// found without one.
func TestConsoleIsSafeToShowData(t *testing.T) {
	bad := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\son\w+="|style="|localStorage`)
	err := fs.WalkDir(console, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(console, name)
		for i, line := range strings.Split(string(text), "\n") {
			if m := bad.FindString(line); m != "" {
				t.Errorf("%s:%d has %q", name, i+1, m)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
