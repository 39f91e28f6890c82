package kubestub

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// ServeHTTP implements http.Handler: the API, and PUT /objects, which replaces
// all objects by those of the body, a YAML text.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch part := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/version":
		answer(w, http.StatusOK, Object{"major": "1", "minor": "36", "gitVersion": "v1.36.1"})
	case r.URL.Path == "/objects" && r.Method == http.MethodPut:
		s.put(w, r)
	case len(part) >= 3 && part[0] == "api":
		s.resource(w, r, "/"+part[1], part[2:])
	case len(part) >= 4 && part[0] == "apis":
		s.resource(w, r, part[1]+"/"+part[2], part[3:])
	default:
		refuse(w, http.StatusNotFound, "NotFound", "no such path")
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var all []Object
		if all, err = Parse(body); err == nil {
			s.Replace(all)
		}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
	}
}

// resource answers for one kind of objects: path is what follows its version.
func (s *Server) resource(w http.ResponseWriter, r *http.Request, version string, path []string) {
	var namespace, name, sub string
	if path[0] == "namespaces" && len(path) >= 3 && path[2] != "status" {
		namespace, path = path[1], path[2:]
	}
	resource := version + "/" + path[0]
	if len(path) == 1 {
		s.many(w, r, resource, namespace)
		return
	}
	name, sub = path[1], strings.Join(path[2:], "/")
	s.one(w, r, key{resource, namespace, name}, sub)
}

// one answers for a single object. istiod writes nothing but statuses.
func (s *Server) one(w http.ResponseWriter, r *http.Request, k key, sub string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[k]
	if !ok {
		refuse(w, http.StatusNotFound, "NotFound", k.resource+" "+k.namespace+"/"+k.name)
		return
	}
	if r.Method == http.MethodPut && sub == "status" {
		var in Object
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		o = runtime.DeepCopyJSON(o)
		o["status"] = in["status"]
		s.set(k, o)
	}
	answer(w, http.StatusOK, o)
}

// selection is which objects a list or a watch is about.
type selection struct {
	resource, namespace string
	labels              labels.Selector
	fields              fields.Selector
	onlyMeta            bool
}

func (s selection) has(k key, o Object) bool {
	if k.resource != s.resource || s.namespace != "" && k.namespace != s.namespace {
		return false
	}
	set := labels.Set{}
	own, _ := meta(o)["labels"].(Object)
	for name, v := range own {
		set[name] = text(v)
	}
	known := fields.Set{"metadata.name": k.name, "metadata.namespace": k.namespace, "type": text(o["type"])}
	for _, r := range s.fields.Requirements() {
		if got, ok := known[r.Field]; ok && (r.Operator == "!=") == (got == r.Value) {
			return false
		}
	}
	return s.labels.Matches(set)
}

func (s selection) show(o Object) Object {
	if s.onlyMeta {
		return Object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
	}
	return o
}

func (s *Server) many(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	if r.Method != http.MethodGet {
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
		return
	}
	q := r.URL.Query()
	if q.Get("sendInitialEvents") == "true" {
		refuse(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is not served; list instead")
		return
	}
	byLabel, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	byField, err := fields.ParseSelector(q.Get("fieldSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	sel := selection{resource, namespace, byLabel, byField, strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")}
	if q.Get("watch") == "true" || q.Get("watch") == "1" {
		s.watch(w, r, sel)
		return
	}
	s.list(w, sel)
}

func (s *Server) list(w http.ResponseWriter, sel selection) {
	s.mu.Lock()
	items := []any{}
	for k, o := range s.objects {
		if sel.has(k, o) {
			items = append(items, sel.show(o))
		}
	}
	version := strconv.Itoa(len(s.events))
	s.mu.Unlock()
	out := Object{"metadata": Object{"resourceVersion": version}, "items": items}
	if sel.onlyMeta {
		out["kind"], out["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	answer(w, http.StatusOK, out)
}

// watch sends what changes after resourceVersion until the client is gone.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, sel selection) {
	next, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	for {
		s.mu.Lock()
		events, changed := s.events[min(next, len(s.events)):], s.changed
		s.mu.Unlock()
		next += len(events)
		for _, e := range events {
			if sel.has(e.key, e.object) && lines.Encode(Object{"type": e.action, "object": sel.show(e.object)}) != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	answer(w, code, Object{"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Failure", "reason": reason, "message": message, "code": code})
}

func answer(w http.ResponseWriter, code int, o Object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o) // the client may be gone
}
