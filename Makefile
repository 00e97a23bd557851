# `make test` is what continuous integration runs.

CARGO ?= cargo
CACHE ?= $(or $(PGWEIR_CACHE),.cache)
export PGWEIR_CACHE := $(abspath $(CACHE))
# The majors that the core tests run on, beside the one that all tests run on.
MAJORS ?= 14 15 16 17 18

.PHONY: help setup build check fmt test test-cargo test-majors test-clients drivers beside demo bench bench-instructions bench-parses fuzz clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Install what the tests need, where it is missing
	scripts/debian.sh
	scripts/postgres.sh $(MAJORS)
	scripts/drivers.sh

build: ## Build the release binary
	$(CARGO) build --release

check: ## Format and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

fmt: ## Format the sources
	$(CARGO) fmt

test: setup check test-cargo test-majors build beside test-clients ## Everything

test-cargo: ## All cargo tests, on Debian's PostgreSQL
	$(CARGO) test

test-majors: ## The core tests, and those of statements, on each PostgreSQL major
	@for major in $(MAJORS); do \
	    echo "== PostgreSQL $$major"; \
	    PGWEIR_TEST_PG=$$major $(CARGO) test --test core --test statements || exit 1; \
	done

test-clients: build ## psql, pgbench and the drivers of other languages
	tests/clients/run

drivers: ## Put the table of drivers, as last tested, into the README
	tests/clients/run --update-readme

demo: build ## A PostgreSQL, a pooler, and a taste of both
	CARGO="$(CARGO)" scripts/demo.sh $(DEMO)

beside: ## What PgBouncer answers and pgweir does not: every command and every refusal, on the same files
	@pgbouncer=$${PGBOUNCER:-$$(scripts/pgbouncer.sh sid)} && $(CARGO) build && \
	    PGBOUNCER="$$pgbouncer" tests/beside/run $(BESIDE) || \
	    { test -z "$$pgbouncer" && echo "SKIPPED: no PgBouncer 1.26 can be had"; }

bench: build ## Compare with PgBouncer: half an hour; BENCH="--quick tcp" is a part of it
	PGBOUNCER="$${PGBOUNCER:-$$(scripts/pgbouncer.sh sid)}" benches/run $(BENCH)

bench-instructions: build ## Count the instructions of a transaction, with valgrind
	PGBOUNCER="$${PGBOUNCER:-$$(scripts/pgbouncer.sh sid)}" benches/instructions

bench-parses: build ## Count what PostgreSQL parses and plans, beside PgBouncer
	PGBOUNCER="$${PGBOUNCER:-$$(scripts/pgbouncer.sh sid)}" benches/parses

fuzz: ## Fuzz each parser shortly (needs cargo-fuzz and a nightly toolchain)
	@for target in $$($(CARGO) +nightly fuzz list); do \
	    mkdir -p fuzz/corpus/$$target; \
	    $(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/corpus-seed/$$target \
	        -- -max_total_time=$(or $(SECONDS),30) || exit 1; \
	done

clean: ## Remove what was built, and the cache
	$(CARGO) clean
	rm -rf .cache tests/clients/node/node_modules
