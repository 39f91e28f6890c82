// Package kubestub is a Kubernetes API in memory: as much of list, watch and get
// as an unmodified istiod asks for. It neither validates nor fills in defaults:
// what it is given is what istiod reads.
package kubestub

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// Object is a Kubernetes object.
type Object = map[string]any

// key names an object. resource is "group/version/plural".
type key struct{ resource, namespace, name string }

// event is one change.
type event struct {
	sequence int64
	action   string // ADDED, MODIFIED or DELETED
	key      key
	object   Object
}

// Server holds the objects. Objects that are in it are never changed, only
// replaced, so that they may be read without the lock.
type Server struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, with every change
	objects map[key]Object
	events  []event
	plurals map[string]string // by "group/Kind"
}

// New returns a server that knows the custom resources of the definitions:
// YAML, of which only the names count.
func New(definitions []byte) (*Server, error) {
	s := &Server{changed: make(chan struct{}), objects: map[key]Object{}, plurals: map[string]string{}}
	all, err := Parse(definitions)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		spec, _ := o["spec"].(Object)
		names, _ := spec["names"].(Object)
		s.plurals[text(spec["group"])+"/"+text(names["kind"])] = text(names["plural"])
		for _, v := range list(spec["versions"]) {
			delete(v.(Object), "schema")
		}
	}
	s.Replace(all)
	return s, nil
}

// Replace makes the objects all that there are besides the definitions of
// resources: those that are not among them are deleted, and those that are the
// same make no event.
func (s *Server) Replace(all []Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[key]bool{}
	for _, o := range append(namespaces(all), all...) {
		k := s.keyOf(o)
		wanted[k] = true
		s.set(k, o)
	}
	for k := range s.objects {
		if !wanted[k] && !strings.HasSuffix(k.resource, "/customresourcedefinitions") {
			s.add(event{action: "DELETED", key: k, object: s.objects[k]})
			delete(s.objects, k)
		}
	}
}

// namespaces are those that objects are in and that are not among them.
func namespaces(all []Object) []Object {
	known := map[string]bool{"": true}
	for _, o := range all {
		if o["kind"] == "Namespace" {
			known[text(meta(o)["name"])] = true
		}
	}
	var out []Object
	for _, o := range all {
		name := text(meta(o)["namespace"])
		if !known[name] {
			out = append(out, Object{"apiVersion": "v1", "kind": "Namespace", "metadata": Object{"name": name}})
		}
		known[name] = true
	}
	return out
}

// set adds or replaces an object.
func (s *Server) set(k key, o Object) {
	o = runtime.DeepCopyJSON(o)
	m, action, generation := meta(o), "ADDED", int64(1)
	if old, ok := s.objects[k]; ok {
		if same(old, o) {
			return
		}
		action = "MODIFIED"
		m["uid"], m["creationTimestamp"] = meta(old)["uid"], meta(old)["creationTimestamp"]
		generation = meta(old)["generation"].(int64) + 1
		if o["status"] == nil && old["status"] != nil {
			o["status"] = old["status"] // what istiod has reported
		}
	} else {
		m["uid"] = fmt.Sprintf("00000000-0000-0000-0000-%012d", len(s.events))
		m["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	}
	m["generation"] = generation
	s.objects[k] = o
	s.add(event{action: action, key: k, object: o})
}

// same reports whether a new object says what the old one does.
func same(old, o Object) bool {
	old, o = runtime.DeepCopyJSON(old), runtime.DeepCopyJSON(o)
	for _, added := range []string{"resourceVersion", "uid", "creationTimestamp", "generation"} {
		delete(meta(old), added)
		delete(meta(o), added)
	}
	if o["status"] == nil {
		delete(old, "status")
	}
	return reflect.DeepEqual(old, o)
}

// add numbers an event and its object, and wakes all watchers.
func (s *Server) add(e event) {
	e.sequence = int64(len(s.events)) + 1
	if e.action == "DELETED" {
		e.object = runtime.DeepCopyJSON(e.object)
	}
	meta(e.object)["resourceVersion"] = strconv.FormatInt(e.sequence, 10)
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) keyOf(o Object) key {
	group, version, ok := strings.Cut(text(o["apiVersion"]), "/")
	if !ok {
		group, version = "", group
	}
	return key{group + "/" + version + "/" + s.plural(group, text(o["kind"])), text(meta(o)["namespace"]), text(meta(o)["name"])}
}

func (s *Server) plural(group, kind string) string {
	if p := s.plurals[group+"/"+kind]; p != "" {
		return p
	}
	switch p := strings.ToLower(kind); {
	case strings.HasSuffix(p, "cy"):
		return strings.TrimSuffix(p, "y") + "ies"
	case strings.HasSuffix(p, "s"):
		return p + "es"
	default:
		return p + "s"
	}
}

// Parse reads the objects of a YAML text, one for each document.
func Parse(all []byte) ([]Object, error) {
	var out []Object
	for _, document := range strings.Split("\n"+string(all), "\n---") {
		j, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, err
		}
		var o Object
		if err := json.Unmarshal(j, &o); err != nil { // which keeps integers
			return nil, err
		}
		if o != nil {
			out = append(out, o)
		}
	}
	return out, nil
}

func meta(o Object) Object {
	m, ok := o["metadata"].(Object)
	if !ok {
		m = Object{}
		o["metadata"] = m
	}
	return m
}

func text(v any) string { s, _ := v.(string); return s }

func list(v any) []any { l, _ := v.([]any); return l }
