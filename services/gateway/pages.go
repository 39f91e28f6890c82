package gateway

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed openapi.json
var openAPI []byte

//go:embed console
var console embed.FS

// servePages serves the pages for people, with the files that they load, and
// the description of the API. Everything is in the program.
func servePages(mux *http.ServeMux) error {
	files, err := fs.Sub(console, "console")
	if err != nil {
		return err
	}
	return fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("page %s: %w", name, err)
		}
		at := "/console/" + name
		switch name {
		case "index.html":
			at = "/{$}"
		case "docs.html":
			at = "/docs"
			mux.Handle("/openapi.json", only(file("application/json", openAPI)))
		}
		mux.Handle(at, only(file(mime.TypeByExtension(path.Ext(name)), content)))
		return nil
	})
}

// file serves what does not change while the program runs. It is asked for
// again each time, which costs no more than the answer that it is the same, so
// that a new version of the shop never meets an old script.
func file(contentType string, content []byte) http.Handler {
	etag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(content))[:16])
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
