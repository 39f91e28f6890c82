# `make` or `make help` lists what there is.

.DEFAULT_GOAL := help
.PHONY: help run build test fuzz chaos check generate clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

run: build ## the whole shop in one process: http://localhost:8080
	@bin/shop

# The commit is stamped where git lets us know it (not in a tarball, nor in a
# clone of another user's that is not a safe.directory).
vcs = $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

build: ## all programs, into bin/
	@mkdir -p bin
	@echo "building (the first time takes a minute or two) ..." >&2
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(vcs) -tags grpcnotrace -ldflags "-s -w" -o bin/ ./services/cmd/...

test: ## every test
	@tests/run

FUZZTIME ?= 1m
fuzz: ## every fuzz target, FUZZTIME each: make fuzz FUZZTIME=10m
	@tests/fuzz -time $(FUZZTIME)

chaos: ## sell while everything breaks: make chaos ARGS="-orders 10000" (ARGS=-help)
	@tests/prepare
	@go run ./tests/chaos $(ARGS)

check: ## what CI checks besides the tests: format, vet, staticcheck, contracts
	@.ci/check

generate: ## the Go code, the REST bindings, OpenAPI and the meshes' manifests, from proto/
	@tools/generate

clean: ## remove what was built; the shop's data stays
	@rm -rf bin .build
