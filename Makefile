# What CI does, by the same names. `make test` is everything that decides whether a change is good.
#
# It needs git, a C compiler, make and Rust; `make tools` installs the rest into .tools/ (see scripts/tools.sh).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test lint fmt tools unit fuzz bench image clean-tools

CARGO ?= cargo
IMAGE ?= acs-broker:dev
# What `make tools` fetched because the system's was too old.
export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.tools/cargo/bin:$(PATH)

help: ## says what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

tools: ## installs what the checks need and is missing; quiet when all is there
	@scripts/tools.sh

# The order is: what fails fastest comes first, and the test summaries stand last.
test: tools lint unit ## formatting, lints, documentation, licences, proto rules and every test

lint: tools ## every check that runs nothing of ours
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --quiet --all-targets -- -D warnings
	$(CARGO) clippy --locked --quiet --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --quiet --no-deps
	.tools/node/node_modules/.bin/buf lint proto
	$(CARGO) deny --locked --log-level error check licenses bans sources
	$(CARGO) deny --manifest-path fuzz/Cargo.toml --config deny.toml --locked --log-level error check licenses bans sources

# `cargo test`, not nextest: it is there wherever Rust is, so everybody runs the same thing.
# The default build has the emulator; without it there is the image's build, whose unit tests run too. A failure in the
# one does not keep the other from being seen.
unit: tools ## every test, in both feature sets
	failed=; \
	$(CARGO) test --locked --no-fail-fast --no-default-features --lib --bins || failed=yes; \
	$(CARGO) test --locked --no-fail-fast || failed=yes; \
	test -z "$$failed"

fmt: ## formats the Rust code
	$(CARGO) fmt

# How long each target is fuzzed.
SECONDS = 60

fuzz: ## fuzzes every parser of untrusted bytes, SECONDS=60 each; needs a nightly toolchain and a C++ compiler
	scripts/fuzz.sh $(SECONDS)

bench: ## measures the service against a bare tonic server (see bench/load)
	python3 bench/load/run.py
	python3 bench/load/sends.py
	python3 bench/load/guarded.py

image: ## builds the container image; needs docker
	docker build --tag $(IMAGE) .

clean-tools: ## removes .tools/, so that `make tools` starts from nothing
	rm -rf .tools
