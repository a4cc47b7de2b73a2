# Skiff. `make help` lists everything; `make demo` and `make test` need nothing but this checkout.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
TARGET ?= $(shell uname -m)-unknown-linux-gnu
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# Told by `containerd-shim-… -info`; empty where the sources are no checkout.
export SKIFF_REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
RELEASE := $(CARGO_TARGET_DIR)/$(TARGET)/release
STAGE := $(CARGO_TARGET_DIR)/stage
BINARIES := containerd-shim-skiff-v1 skiff skiff-node skiff-agent skiff-host-wasmtime skiff-serve-wasmtime skiff-compile-wasmtime skiff-init skiff-pause
TOOLBOX := skiff-toolbox.wasm

.PHONY: help
help: ## This list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## Run Wasm images under a containerd of its own, beside a runc container, and clean up
	@SKIFF_BIN_DIR=$(STAGE)/bin test/demo.sh

.PHONY: test
test: ## Install what is missing and run every suite that fits this machine
	@test/all.sh

.PHONY: build
build: ## Build all binaries (release) into target/stage/bin
	@test/node/install.sh build
	@# Calls of their own on purpose: in one, cargo would unite wasmtime's features and put the compiler into the hosts.
	cargo build --release --locked --target $(TARGET) -p skiff-shim -p skiff-cli -p skiff-node -p skiff-agent -p skiff-init -p skiff-pause
	cargo build --release --locked --target $(TARGET) -p skiff-host-wasmtime
	cargo build --release --locked --target $(TARGET) -p skiff-serve-wasmtime
	cargo build --release --locked --target $(TARGET) -p skiff-compile-wasmtime
	@# A workspace of its own: a guest.
	cd crates/toolbox && cargo build --release --locked --target wasm32-wasip2
	@$(MAKE) --no-print-directory stage BIN_DIR=$(STAGE)/bin
	@$(MAKE) --no-print-directory wasmedge

# Exit status 3 means that this machine cannot make it, and was told why: everything else is complete without it.
.PHONY: wasmedge
wasmedge: ## WasmEdge's host, compiler and libraries alone, into target/stage/bin (part of build; WASMEDGE=no leaves it out)
	@mkdir -p $(STAGE)/bin
	@[ "$(WASMEDGE)" = no ] || crates/engine-wasmedge/bundle.sh build $(CARGO_TARGET_DIR)/wasmedge-packages $(STAGE)/bin || [ $$? -eq 3 ]

IMAGE ?= skiff.dev/skiff:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: image
image: build ## Write the image of the chart for amd64 and arm64 as an OCI archive: target/skiff-image.tar (ARM64=no leaves that out)
	cargo build --release --locked --target $(TARGET) -p skiff-image --features build --bin skiff-linux-image
	@# Exit status 3: this machine cannot build for arm64, and was told why.
	@more=; if [ "$(ARM64)" != no ]; then \
		if test/build-aarch64.sh $(STAGE)/arm64; then more=arm64=$(STAGE)/arm64; elif [ $$? -ne 3 ]; then exit 1; fi; \
	fi; \
	test/image.sh $(STAGE)/bin $(RELEASE)/skiff-linux-image $(IMAGE) $(CARGO_TARGET_DIR)/skiff-image.tar $$more

.PHONY: install
install: build ## Put all binaries under PREFIX/bin (default /usr/local)
	@$(MAKE) --no-print-directory stage BIN_DIR=$(DESTDIR)$(PREFIX)/bin
	@# Engines with libraries of their own, each version a folder.
	@cd $(STAGE)/bin && for folder in engines/*/*/; do \
		[ -d $$folder ] || continue; place=$(DESTDIR)$(PREFIX)/bin/$${folder%/}; half=$${place%/*}/.half; \
		rm -rf $$half && mkdir -p $$half && cp -r $$folder $$half/new || exit 1; \
		if [ -e $$place ]; then mv $$place $$half/old; fi; mv $$half/new $$place && rm -rf $$half || exit 1; \
	done
	@for shim in $(STAGE)/bin/containerd-shim-wasmedge-v1; do \
		if [ -e $$shim ]; then ln -sfn containerd-shim-skiff-v1 $(DESTDIR)$(PREFIX)/bin/$${shim##*/}; fi; \
	done
	@echo "installed in $(DESTDIR)$(PREFIX)/bin; next: docs/install.md"

# Each file is written beside its place and renamed over it: a running shim keeps its old binary.
.PHONY: stage
stage:
	@mkdir -p $(BIN_DIR)
	@for binary in $(BINARIES); do \
		install -m 0755 $(RELEASE)/$$binary $(BIN_DIR)/.$$binary.new && mv -f $(BIN_DIR)/.$$binary.new $(BIN_DIR)/$$binary || exit 1; \
	done
	@install -m 0644 $(CARGO_TARGET_DIR)/wasm32-wasip2/release/$(TOOLBOX) $(BIN_DIR)/.$(TOOLBOX).new && mv -f $(BIN_DIR)/.$(TOOLBOX).new $(BIN_DIR)/$(TOOLBOX)
	@ln -sfn containerd-shim-skiff-v1 $(BIN_DIR)/containerd-shim-wasmtime-v1

.PHONY: install-tools
install-tools: ## Install the packages and build the pinned containerds, runc and crictl that tests use
	@test/node/install.sh
	@test/node/build.sh

.PHONY: lint
lint: ## Formatting, clippy, dependency rules, the repository's own rules
	@test/lint.sh

.PHONY: check-aarch64
check-aarch64: ## Type-check everything for aarch64 (not run here)
	@test/check-aarch64.sh

.PHONY: test-unit
test-unit: ## Unit and root tests of every crate
	@test/unit.sh

.PHONY: test-node
test-node: install-tools build ## Tests with real containerds 1.7, 2.1 and 2.4
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh containerd

.PHONY: test-http-storm
test-http-storm: install-tools build ## A million HTTP requests in bad weather, and 200 services that end under load (about 8 minutes)
	@SKIFF_TEST_STORM_REQUESTS=$${SKIFF_TEST_STORM_REQUESTS:-1000000} SKIFF_TEST_STORM_ENDS=$${SKIFF_TEST_STORM_ENDS:-200} \
		SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh containerd http_storm:: http_end::nobody

.PHONY: engines-table
engines-table: install-tools build ## Write the table of docs/engines.md anew, from what engines do in real containers
	@SKIFF_WRITE_TABLE=yes SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh containerd engine_table::

.PHONY: test-wasmedge
test-wasmedge: install-tools build ## What is asked of wasmtime in real containers, asked of WasmEdge; CASE=word for some of it
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh containerd-wasmedge $(CASE)

.PHONY: test-wasi
test-wasi: install-tools build ## WASI 0.1, function by function: on each engine alone, and in a container
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh wasi

.PHONY: wasi-list
wasi-list: install-tools build ## Write anew what docs/wasi.md says of WasmEdge
	@SKIFF_WRITE_TABLE=yes SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh wasi cases::wasmedge

.PHONY: test-languages
test-languages: install-tools build ## Guests in many languages, built from source with tools of registries, on each engine
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh languages

.PHONY: languages-table
languages-table: install-tools build ## Write the table of docs/languages.md anew, on a machine that must be idle
	@SKIFF_WRITE_TABLE=yes SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh languages table::

.PHONY: test-install
test-install: install-tools build ## The installer on trees of nodes and on containerds of its own
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh install

.PHONY: test-chart
test-chart: ## The chart, as Helm 4 and Helm 3 make objects of it
	@test/run.sh chart

.PHONY: test-compat
test-compat: install-tools build ## The same images and options under a runwasi shim and under Skiff (about 15 minutes the first time)
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh compat

.PHONY: test-runwasi-engines
test-runwasi-engines: install-tools build ## Engines written for runwasi, built as engines of Skiff and run under its shim
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh runwasi-engines

.PHONY: test-critest
test-critest: install-tools build ## cri-tools' validation suite under runc and under Skiff, and what differs (about 10 minutes)
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh critest

.PHONY: test-client-suite
test-client-suite: install-tools build ## containerd's client suite under runc's shim and under Skiff, and what differs (about 10 minutes)
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh client-suite

.PHONY: test-vm
test-vm: install-tools build ## Tests in an emulated machine with cgroup v2 and systemd (under 10 minutes)
	@SKIFF_BIN_DIR=$(STAGE)/bin test/vm/run.sh

.PHONY: test-twin
test-twin: install-tools build ## What Kubernetes may ask of a container, asked of Wasm containers through CRI
	@SKIFF_BIN_DIR=$(STAGE)/bin test/run.sh twin

.PHONY: test-cluster
test-cluster: install-tools build ## Skiff in a real cluster of its own, on containerd 2.4 and 1.7; CASE=word for some of it
	@SKIFF_BIN_DIR=$(STAGE)/bin test/cluster/run.sh $(CASE)

.PHONY: test-cluster-first
test-cluster-first: install-tools build ## A few of these scenarios, of every kind, on one node with containerd 2.4: what make test has of it
	@SKIFF_BIN_DIR=$(STAGE)/bin test/cluster/run.sh first $(CASE)

.PHONY: test-scale
test-scale: install-tools build ## 50 pods from 0 and back, Wasm beside runc, in a cluster on a machine that must be idle
	@SKIFF_BIN_DIR=$(STAGE)/bin test/cluster/run.sh --containerd=2.4 scale

.PHONY: cluster
cluster: install-tools build ## A cluster of one node with Skiff on it, which stays up, and what to try in it
	@SKIFF_BIN_DIR=$(STAGE)/bin test/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## Take that cluster away
	@test/cluster/down.sh

.PHONY: bench
bench: bench-tools ## Measure Skiff beside runwasi and runc on this machine, which must be idle; writes docs/bench
	@SKIFF_BIN_DIR=$(STAGE)/bin $(RELEASE)/skiff-bench

.PHONY: bench-quick
bench-quick: bench-tools ## The same in under 5 minutes, into target/bench
	@SKIFF_BIN_DIR=$(STAGE)/bin $(RELEASE)/skiff-bench --quick

.PHONY: bench-tools
bench-tools: install-tools build
	@test/compat/build-peer.sh
	@bench/peers/http.sh
	@# Guests, workspaces of their own.
	@for example in http http-p3; do \
		(cd examples/$$example && cargo build --quiet --release --locked --target wasm32-wasip2 --target-dir target) || exit 1; \
	done
	cargo build --release --locked --target $(TARGET) -p skiff-bench

.PHONY: clean
clean: ## Remove build output of this checkout (the cache of pinned tools stays)
	@rm -rf $(CARGO_TARGET_DIR)
