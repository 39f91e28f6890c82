# `make` or `make help` lists what there is.

.DEFAULT_GOAL := help
.PHONY: help run observe observe-down build images release test test-cluster fuzz chaos bench screenshots check hooks generate new-service clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

# With `make observe` up it sends its telemetry there; what is set in the user's
# environment holds all the same.
run: ## the whole shop in one process: http://localhost:8080
	$(compile) ./services/cmd/shop
	@own=$$(export -p); if [ -f .build/observe.env ]; then set -a; . ./.build/observe.env; eval "$$own"; fi; exec bin/shop

observe: ## a collector, Jaeger, Prometheus and Grafana in Docker, for the next make run
	@observability/up

observe-down: ## removes them again
	@observability/down

# The commit is stamped where git lets us know it (not in a tarball, nor in a
# clone of another user's that is not a safe.directory).
vcs = $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

# What it compiles follows: $(compile) PACKAGES.
define compile
	@mkdir -p bin
	@echo "building (the first time takes a minute or two) ..." >&2
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(vcs) -tags grpcnotrace,nethttpomithttp2,nopgxregisterdefaulttypes -ldflags "-s -w" -o bin/
endef

build: ## all programs, into bin/
	$(compile) ./services/cmd/...

images: ## a container image of each program, by ko: make images ARGS="-push REPOSITORY" (ARGS=-help)
	@tools/bin -exec images $(ARGS)

release: ## what a tag v1.2.3 has GitHub publish: make release ARGS=-dry-run (ARGS=-help)
	@tools/release $(ARGS)

test: ## every test
	@tests/run

test-cluster: ## the shop in the cluster of the current context, replaced under load (ARGS=-help)
	@go run ./tests/cluster $(ARGS)

FUZZTIME ?= 1m
fuzz: ## every fuzz target, FUZZTIME each: make fuzz FUZZTIME=10m
	@tests/fuzz -time $(FUZZTIME)

chaos: ## sell while everything breaks: make chaos ARGS="-orders 10000" (ARGS=-help)
	@tests/prepare
	@go run ./tests/chaos $(ARGS)

bench: ## measure against the bare limit: make bench ARGS="-quick" (ARGS=-help)
	@tests/bench/prepare
	@go run ./tests/bench $(ARGS)

screenshots: ## the pictures in docs/, from a real run in a real browser
	@rm -rf .build/screenshots && mkdir -p .build/screenshots docs/screenshots
	@CONSOLE_SCREENSHOTS=$(CURDIR)/.build/screenshots go test -count=1 -run 'TestConsole$$' ./services/shop
	@cd docs/screenshots && for f in *.png; do cp ../../.build/screenshots/$$f .; done

check: ## what CI checks besides the tests: format, vet, staticcheck, contracts
	@.ci/check

hooks: ## has git do the quick part of it before each commit
	@git config core.hooksPath tools/hooks

generate: ## the Go code, REST, OpenAPI, the meshes' manifests, alerts and dashboards, from proto/
	@tools/generate

new-service: ## write a whole new service, called through the gateway: make new-service NAME=parcel
	@go run ./tools/newservice -name "$(NAME)"

clean: ## remove what was built; the shop's data stays
	@rm -rf bin .build
