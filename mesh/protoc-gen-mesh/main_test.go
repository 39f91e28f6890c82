package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract/contracttest"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func TestEveryFileIsTheSameEachTime(t *testing.T) {
	for _, tg := range targets() {
		first := content(t, tg)
		for range 5 {
			again := content(t, tg)
			for path, text := range first {
				if !bytes.Equal(again[path], text) {
					t.Errorf("%s differs", path)
				}
			}
		}
	}
}

// tools/generate knows by the first line what it may write and remove.
func TestEveryFileSaysWhoWroteIt(t *testing.T) {
	for _, tg := range targets() {
		for path, text := range content(t, tg) {
			if line, _, _ := bytes.Cut(text, []byte("\n")); !bytes.Contains(line, []byte(target.Header)) {
				t.Errorf("%s begins with %q", path, line)
			}
			if _, err := os.Stat(filepath.Join(contracttest.Root(), path)); err != nil {
				t.Errorf("run tools/generate: %v", err)
			}
		}
	}
}

func content(t *testing.T, tg target.Target) map[string][]byte {
	t.Helper()
	if tg.Files == nil {
		return nil
	}
	files, err := tg.Files(contracttest.Shop(t))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		out[f.Path] = f.Content
	}
	if len(out) != len(files) {
		t.Errorf("%s writes a file twice", tg.Name)
	}
	return out
}

// The manifests must ask of a token what the process asks.
func TestTokensAreThoseOfTheRuntime(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(contracttest.Root(), "services/internal/auth/auth.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				got[v.Names[0].Name], _ = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	shop := contracttest.Shop(t)
	if got["Issuer"] != shop.Issuer || got["Audience"] != shop.Audience || got["RoleAdmin"] != "admin" {
		t.Errorf("issuer %q, audience %q, role %q", got["Issuer"], got["Audience"], got["RoleAdmin"])
	}
}

// What the options say of the backends must be what the base gives to whom.
func TestBackendsAreThoseOfTheBase(t *testing.T) {
	shop := contracttest.Shop(t)
	for _, account := range shop.Accounts() {
		text, err := os.ReadFile(filepath.Join(contracttest.Root(), "mesh/base/services", account+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		uses := false
		for _, b := range shop.BackendsOf(account) {
			uses = uses || b.Host == "postgres"
		}
		if has := strings.Contains(string(text), "name: DATABASE_URL"); has != uses {
			t.Errorf("%s: DATABASE_URL %v, backend postgres %v", account, has, uses)
		}
	}
}
