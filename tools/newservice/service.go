package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// service is the one to be written.
type service struct {
	name string // parcel
	port int    // of gRPC in the all-in-one
}

// newService checks that there can be a service of that name.
func newService(root, name string) (*service, error) {
	if err := checkName(root, name); err != nil {
		return nil, err
	}
	shop, err := os.ReadFile(filepath.Join(root, "services/shop/shop.go"))
	if err != nil {
		return nil, err
	}
	s := &service{name: name}
	for _, m := range regexp.MustCompile(`\.New\(\), "(\d+)"\}`).FindAllSubmatch(shop, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return nil, err
		}
		s.port = max(s.port, n+1)
	}
	if s.port == 0 {
		return nil, fmt.Errorf("services/shop/shop.go: no service with a port is found")
	}
	return s, nil
}

// named puts the service's name into a text that is about gadgets.
func (s *service) named(text string) string {
	title, all := strings.ToUpper(s.name[:1])+s.name[1:], plural(s.name)
	article := "a"
	if strings.Contains("aeiou", s.name[:1]) {
		article = "an"
	}
	return strings.NewReplacer(
		"a gadget ", article+" "+s.name+" ", "a gadget'", article+" "+s.name+"'", "a gadget,", article+" "+s.name+",",
		"A gadget ", strings.ToUpper(article[:1])+article[1:]+" "+s.name+" ",
		"gadgets", all, "Gadgets", strings.ToUpper(all[:1])+all[1:], "gadget", s.name, "Gadget", title,
		"GADGET", strings.ToUpper(s.name), "PORT", strconv.Itoa(s.port),
	).Replace(text)
}

// plural is what English makes of most nouns.
func plural(name string) string {
	last := name[len(name)-1:]
	switch {
	case strings.Contains("sxz", last), strings.HasSuffix(name, "ch"), strings.HasSuffix(name, "sh"):
		return name + "es"
	case last == "y" && !strings.Contains("aeiou", name[len(name)-2:len(name)-1]):
		return name[:len(name)-1] + "ies"
	}
	return name + "s"
}

// sqlWords can't be the name of a table, though they look like a plural.
var sqlWords = []string{"exists", "references", "values"}

// keeps reports whether a plural can be the name of a table.
func keeps(plural string) bool { return !slices.Contains(sqlWords, plural) }
