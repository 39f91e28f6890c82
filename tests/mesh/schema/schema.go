// Package schema tells whether objects are valid, as an API server would:
// Kubernetes' own kinds by their Go types, others by the OpenAPI schema and the
// CEL rules of their CustomResourceDefinitions. A field that is not known is an
// error.
package schema

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	k8sschema "k8s.io/apimachinery/pkg/runtime/schema"
	names "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	celconfig "k8s.io/apiserver/pkg/apis/cel"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/meshmart/meshmart/tests/mesh/kubestub"
)

// Object is a Kubernetes object.
type Object = kubestub.Object

// Checker knows kinds of objects.
type Checker struct {
	builtin *runtime.Scheme
	custom  map[string]*kind // by "apiVersion/kind"
}

// kind is one version of a custom resource.
type kind struct {
	schema *structural.Structural
	valid  validation.SchemaValidator
	cel    *cel.Validator
}

// New returns a checker that knows Kubernetes' own kinds, and those of the
// definitions, a YAML text.
func New(definitions string) (*Checker, error) {
	c := &Checker{builtin: runtime.NewScheme(), custom: map[string]*kind{}}
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, policyv1.AddToScheme, autoscalingv2.AddToScheme, networkingv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(c.builtin); err != nil {
			return nil, err
		}
	}
	all, err := kubestub.Parse([]byte(definitions))
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if err := c.define(o); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Checker) define(o Object) error {
	if o["kind"] != "CustomResourceDefinition" {
		return nil
	}
	text, err := yaml.Marshal(o)
	if err != nil {
		return err
	}
	var crd v1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	for _, v := range crd.Spec.Versions {
		k, err := newKind(v)
		if err != nil {
			return fmt.Errorf("%s %s: %w", crd.Name, v.Name, err)
		}
		c.custom[crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind] = k
	}
	return nil
}

func newKind(v v1.CustomResourceDefinitionVersion) (*kind, error) {
	var props apiextensions.JSONSchemaProps
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return nil, err
	}
	s, err := structural.NewStructural(&props)
	if err != nil {
		return nil, err
	}
	valid, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		return nil, err
	}
	return &kind{s, valid, cel.NewValidator(s, true, celconfig.PerCallLimit)}, nil
}

// Check returns what is wrong with an object.
func (c *Checker) Check(o Object) []string {
	version, _ := o["apiVersion"].(string)
	name, _ := o["kind"].(string)
	problems := c.named(o)
	if k := c.custom[version+"/"+name]; k != nil {
		return append(problems, k.check(o)...)
	}
	return append(problems, c.typed(o, k8sschema.FromAPIVersionAndKind(version, name))...)
}

// named checks the metadata: names, labels and annotations.
func (c *Checker) named(o Object) []string {
	text, err := json.Marshal(o["metadata"])
	if err != nil {
		return []string{err.Error()}
	}
	var m metav1.ObjectMeta
	strict, err := strictjson.UnmarshalStrict(text, &m)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, err := range strict {
		problems = append(problems, "metadata: "+err.Error())
	}
	for _, text := range names.IsDNS1123Subdomain(m.Name) {
		problems = append(problems, fmt.Sprintf("name %q: %s", m.Name, text))
	}
	if o["kind"] == "Service" || o["kind"] == "Namespace" {
		for _, text := range names.IsDNS1035Label(m.Name) {
			problems = append(problems, fmt.Sprintf("name %q: %s", m.Name, text))
		}
	}
	for _, err := range metavalidation.ValidateLabels(m.Labels, field.NewPath("metadata", "labels")) {
		problems = append(problems, err.Error())
	}
	return problems
}

// typed checks one of Kubernetes' own kinds.
func (c *Checker) typed(o Object, gvk k8sschema.GroupVersionKind) []string {
	into, err := c.builtin.New(gvk)
	if err != nil {
		return []string{err.Error()}
	}
	text, err := json.Marshal(o)
	if err != nil {
		return []string{err.Error()}
	}
	strict, err := strictjson.UnmarshalStrict(text, into)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, err := range strict {
		problems = append(problems, err.Error())
	}
	return problems
}

// check checks a custom resource.
func (k *kind) check(o Object) []string {
	var problems []string
	options := structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(runtime.DeepCopyJSON(o), k.schema, true, options) {
		problems = append(problems, "unknown field "+path)
	}
	o = runtime.DeepCopyJSON(o)
	defaulting.Default(o, k.schema)
	for _, err := range validation.ValidateCustomResource(nil, o, k.valid) {
		problems = append(problems, err.Error())
	}
	if k.cel != nil {
		broken, _ := k.cel.Validate(context.Background(), nil, k.schema, o, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range broken {
			problems = append(problems, err.Error())
		}
	}
	return problems
}
