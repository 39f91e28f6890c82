package rig

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// pprofSource is a file that a service's main package has for a profile only:
// the services themselves have nothing of it.
const pprofSource = `package main

import (
	"net/http"
	_ "net/http/pprof"
	"os"
)

var _ = func() bool {
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		go http.ListenAndServe(addr, nil)
	}
	return true
}()
`

// profiled writes an overlay for go build, which adds pprof to the services.
func profiled(root, dir string) (string, error) {
	source := filepath.Join(dir, "pprof.go")
	replace := map[string]string{}
	for _, name := range append([]string{"shop"}, Services...) {
		replace[filepath.Join(root, "services", "cmd", name, "pprof.go")] = source
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(source, []byte(pprofSource), 0o600); err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}
