// Command protoc-gen-mesh is a plugin of buf and protoc. From the policies in
// the contracts it writes the manifests of every mesh, mesh/LOSSES.md: what they
// cannot express, the alerts and dashboards of the objectives, and the reference
// of the API. It needs all files at once (strategy: all).
package main

import (
	"flag"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/ambient"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/certificates"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/contract"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/grpcconfig"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/istio"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/linkerd"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/losses"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/network"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/observability"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/proxyless"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/reference"
	"github.com/meshmart/meshmart/mesh/protoc-gen-mesh/target"
)

func main() {
	var opts contract.Options
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	opts.Flags(flags)
	protogen.Options{ParamFunc: flags.Set}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		var files []protoreflect.FileDescriptor
		for _, f := range plugin.Files {
			if f.Generate {
				files = append(files, f.Desc)
			}
		}
		shop, err := contract.Read(files, opts)
		if err != nil {
			return err
		}
		return generate(plugin, shop)
	})
}

// targets are all there are, in the order of mesh/LOSSES.md.
func targets() []target.Target {
	return []target.Target{
		istio.Target(), ambient.Target(), linkerd.Target(), proxyless.Target(), network.Target(), grpcconfig.Target(), certificates.Target(),
		observability.Target(), reference.Target(),
	}
}

func generate(plugin *protogen.Plugin, shop *contract.Shop) error {
	var files []target.File
	for _, t := range targets() {
		if t.Files == nil {
			continue
		}
		written, err := t.Files(shop)
		if err != nil {
			return err
		}
		files = append(files, written...)
	}
	lost, err := losses.File(shop, targets())
	if err != nil {
		return err
	}
	for _, f := range append(files, lost) {
		if _, err := plugin.NewGeneratedFile(f.Path, "").Write(f.Content); err != nil {
			return err
		}
	}
	return nil
}
