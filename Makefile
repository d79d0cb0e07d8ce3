# Everything that is done with this repository has a target here; `make help` lists them.
# On a fresh Debian 12 machine with a Rust toolchain the targets install what they need
# (deploy/setup.sh says what it installs).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Build results live in a cache outside the clone, shared by every clone and worktree of a user.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/trireme/target

# Further arguments for the program that a target runs: make run ARGS="--data /tmp/cluster".
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: setup-build ## 3 masters and 3 hollow nodes on this machine, ready for kubectl; Ctrl-C stops them
	cargo build --release --locked --bin trireme
	exec "$$CARGO_TARGET_DIR/release/trireme" dev --masters 3 --hollow 3 $(ARGS)

.PHONY: test
test: setup-test ## everything that must hold before a change is merged
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --doc --locked --quiet
	@# Tests are built with the planted bugs of raft-store: the binary is built without.
	cargo check --locked --package trireme
	! cargo tree --locked --edges normal,features --package trireme --invert raft-store | grep mutants
	filter="$$(deploy/skips.sh)"; cargo nextest run --workspace --locked -E "$$filter" $(ARGS)

.PHONY: bench
bench: bench-store bench-api bench-control-plane ## every measurement

.PHONY: bench-api
bench-api: setup-test ## the API of three masters on this machine
	cargo build --release --locked --package trireme --package bench
	exec "$$CARGO_TARGET_DIR/release/api-bench" --trireme "$$CARGO_TARGET_DIR/release/trireme" $(ARGS)

.PHONY: bench-control-plane
bench-control-plane: setup-test ## whole masters: pods per second, start latency, memory, failover
	cargo build --release --locked --package trireme --package bench
	exec "$$CARGO_TARGET_DIR/release/control-plane-bench" --trireme "$$CARGO_TARGET_DIR/release/trireme" $(ARGS)

.PHONY: bench-store
bench-store: setup-test ## the store against Debian's etcd, in one run on this machine
	cargo build --release --locked --package trireme --package bench
	exec "$$CARGO_TARGET_DIR/release/store-bench" --trireme "$$CARGO_TARGET_DIR/release/trireme" $(ARGS)

.PHONY: soak
soak: setup-test ## the long repetitions, large data and endurance runs that `make test` leaves out
	filter="$$(deploy/skips.sh)"; cargo nextest run --workspace --locked --release --profile soak --run-ignored only -E "$$filter" $(ARGS)
	cargo build --release --locked --package trireme --package bench
	"$$CARGO_TARGET_DIR/release/store-bench" --trireme "$$CARGO_TARGET_DIR/release/trireme" --only kill-leader,stop-leader --rounds 1 --failovers 100

.PHONY: fmt
fmt: ## formats the source
	cargo fmt --all

.PHONY: lint
lint: setup-build ## format check, clippy, and cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --workspace check; \
	else echo "cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny --locked)"; fi

.PHONY: setup-build
setup-build:
	@deploy/setup.sh build

.PHONY: setup-test
setup-test:
	@deploy/setup.sh test
