# Millrace's targets. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The version stands in the binary by -X; Go's own stamping fails in a clone that belongs to another user.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD   := go build -buildvcs=false -trimpath -ldflags '-X main.version=$(VERSION)'
TOOL    := go tool -modfile=tools/go.mod
GOFILES  = $$(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ ! -e "$$f" ] || echo "$$f"; done)

PAGE := $(shell find dashboard/src dashboard/public -type f) \
	$(addprefix dashboard/,index.html package-lock.json tsconfig.json vite.config.ts)

# Packages whose tests start no server: those that do not use the test kit.
UNIT = $$(go list -f '{{$$kit := false}}{{range .TestImports}}{{if eq . "millrace/internal/testkit"}}{{$$kit = true}}{{end}}{{end}}\
	{{range .XTestImports}}{{if eq . "millrace/internal/testkit"}}{{$$kit = true}}{{end}}{{end}}{{if not $$kit}}{{.ImportPath}}{{end}}' ./...)

FUZZTIME ?= 20s
FLEET    ?= 100
IMAGE    ?= millrace:$(VERSION)

.PHONY: help build up test check lint deps vulncheck bench fuzz clean image go-build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: dashboard/dist/index.html go-build ## build the one binary, dashboard inside: bin/millrace

go-build: dashboard/dist/index.html
	@[ -e bin/millrace ] || echo "building bin/millrace (the first time a minute or two)"
	@$(BUILD) -o bin/millrace ./cmd/millrace

up: build ## run everything in one process, with FLEET=100 simulated devices
	@exec bin/millrace up --fleet $(FLEET)

# What npm installed is as new as the list it was made from.
dashboard/node_modules/.package-lock.json: dashboard/package-lock.json
	@echo "installing what the dashboard is built with (npm ci)"
	@cd dashboard && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

dashboard/dist/index.html: $(PAGE) dashboard/node_modules/.package-lock.json
	@echo "building the dashboard"
	@cd dashboard && npm run --silent build -- --logLevel warn
	@touch $@

deps: ## install what the tests need and say what that is: Debian packages, Kafka's jars, PGlite
	@tools/deps.sh

test: deps build lint ## all tests, against real servers: what CI runs
	@cd dashboard && npm test --silent
	go test -race -shuffle=on -count=1 -timeout 20m ./...

check: build lint ## the quick round: build, lint, and the tests that start no server
	@cd dashboard && npm test --silent
	go test -race -shuffle=on -count=1 -timeout 5m $(UNIT)

lint: dashboard/dist/index.html ## go vet, staticcheck, gofumpt, and tsc for the dashboard
	go vet ./...
	$(TOOL) staticcheck ./...
	@unformatted=$$($(TOOL) gofumpt -l $(GOFILES)); \
	[ -z "$$unformatted" ] || { echo "not formatted; run '$(TOOL) gofumpt -w' on: $$unformatted"; exit 1; }
	@cd dashboard && npm run --silent check

vulncheck: dashboard/dist/index.html ## known vulnerabilities in what is used (GOVULNDB=file:///… names an offline database)
	$(TOOL) govulncheck $(if $(GOVULNDB),-db $(GOVULNDB)) ./...

BENCH = go test -count 1 -timeout 30m -run '^$$' -benchtime 1x ./bench -bench

bench: deps build ## measure beside peers, one table; bench-ingest, -sink, -screens, -rest run a part
	$(BENCH) .

bench-%: deps build
	$(BENCH) '(?i)^Benchmark$*'

fuzz: ## run every fuzz test for FUZZTIME=20s
	@tools/fuzz.sh $(FUZZTIME)

image: ## build the container image (needs a Docker engine)
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

clean: ## remove what was built and installed in the clone; data/ stays
	rm -rf bin .cache dashboard/node_modules internal/testkit/pglite/node_modules
	find dashboard/dist -mindepth 1 ! -name .keep -delete
