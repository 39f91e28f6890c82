package overlay

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
)

// Replica is one pod of a Deployment.
type Replica struct {
	// Deployment is whose, by name.
	Deployment, Name, IP string
	// Account and Labels are the pod's, as the Deployment says.
	Account string
	Labels  map[string]string
}

// Replicas are n pods of each Deployment. ip tells the address of each: the
// Deployments are counted from 1 in their order, and so are their pods.
func Replicas(objects []Object, n int, ip func(deployment, pod int) string) []Replica {
	var out []Replica
	count := 0
	for _, o := range objects {
		if o["kind"] != "Deployment" {
			continue
		}
		count++
		name := Text(o, "metadata", "name")
		for i := 1; i <= n; i++ {
			out = append(out, Replica{
				Deployment: name, Name: fmt.Sprintf("%s-%d", name, i), IP: ip(count, i),
				Account: Text(o, "spec", "template", "spec", "serviceAccountName"),
				Labels:  Strings(o, "spec", "template", "metadata", "labels"),
			})
		}
	}
	return out
}

// Running returns the objects as a cluster holds them: with the defaults that
// istiod reads, the pods, and the endpoints of each Service.
func Running(namespace string, objects []Object, pods []Replica) []Object {
	var out []Object
	for _, o := range objects {
		o = runtime.DeepCopyJSON(o)
		out = append(out, o)
		if o["kind"] == "Service" {
			fillIn(o, len(out))
			out = append(out, endpoints(o, pods))
		}
	}
	for _, p := range pods {
		out = append(out, p.pod(namespace))
	}
	return out
}

// fillIn writes what the API server would.
func fillIn(service Object, n int) {
	spec := service["spec"].(Object)
	if spec["clusterIP"] == nil {
		spec["clusterIP"] = fmt.Sprintf("10.96.0.%d", n)
		spec["clusterIPs"] = []any{spec["clusterIP"]}
	}
	for _, p := range List(service, "spec", "ports") {
		if p["protocol"] == nil {
			p["protocol"] = "TCP"
		}
		if p["targetPort"] == nil {
			p["targetPort"] = p["port"]
		}
	}
}

func endpoints(service Object, pods []Replica) Object {
	name, namespace := Text(service, "metadata", "name"), Text(service, "metadata", "namespace")
	ports := []any{}
	for _, p := range List(service, "spec", "ports") {
		ports = append(ports, Object{"name": p["name"], "port": p["targetPort"], "protocol": "TCP"})
	}
	list := []any{}
	for _, p := range pods {
		if !selects(Strings(service, "spec", "selector"), p.Labels) {
			continue
		}
		list = append(list, Object{
			"addresses": []any{p.IP}, "conditions": Object{"ready": true, "serving": true},
			"targetRef": Object{"kind": "Pod", "name": p.Name, "namespace": namespace},
		})
	}
	return Object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports, "endpoints": list,
		"metadata": Object{"name": name + "-1", "namespace": namespace, "labels": Object{"kubernetes.io/service-name": name}},
	}
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func (r Replica) pod(namespace string) Object {
	labels := Object{}
	for k, v := range r.Labels {
		labels[k] = v
	}
	return Object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": Object{"name": r.Name, "namespace": namespace, "labels": labels},
		"spec":     Object{"serviceAccountName": r.Account, "containers": []any{Object{"name": "service"}}},
		"status": Object{
			"phase": "Running", "podIP": r.IP, "podIPs": []any{Object{"ip": r.IP}},
			"conditions": []any{Object{"type": "Ready", "status": "True"}},
		},
	}
}
