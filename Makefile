# What each target does: `make help`. Setup runs first everywhere; it is quick when nothing is missing.
SHELL := /bin/sh
.DEFAULT_GOAL := all
.NOTPARALLEL:
.PHONY: all help setup store test format lint types layers fast scenarios bench faults lock clean

BIN := .venv/bin
PYTHON := $(BIN)/python
CODE := gateway cloud_bridge provisioning virtual_store benchmarks scripts tests
# Fast tests mostly wait for sockets and timers, so a few more of them than cores run at once.
WORKERS := $(shell expr $$(nproc) + 2)
# These bring up brokers, headquarters, boxes and their doors for nearly every test: `make test` runs them, `make` has a minute.
WITH_SERVERS := tests/gateway/kiosk tests/cloud_bridge/hq tests/cloud_bridge/brokers tests/provisioning tests/systemd tests/benchmarks tests/models tests/faults
# These look at times and rates, so nothing else runs beside them.
ALONE := tests/benchmarks tests/gateway/scanner/test_driver.py tests/gateway/locker/test_rest.py
# What failed beside other tests is asked once more, alone: whole stores on a busy machine wait for each other. Who fails twice has failed;
# so has a run that ended otherwise than by failed tests (its status is not 1), since nobody knows what it left out.
AGAIN := { [ $$? -eq 1 ] && echo "== these failed; once more, alone" && $(PYTHON) -m pytest --last-failed --last-failed-no-failures none; }
# On a developer's machine formatting rewrites; in CI it only looks.
FIX := $(if $(CI),,fix)

all: setup ## format, lint, types, layers, fast tests (under a minute)
	@$(MAKE) --no-print-directory format lint types layers fast

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything the other targets need: system packages, .venv, locked libraries
	@scripts/setup test

store: ## a whole store with HQ on this machine; options: make store ARGS="..."
	@scripts/setup store
	@$(BIN)/store-gateway store $(ARGS)

test: setup ## all tests, slow ones and browser included; options: make test ARGS="..."
	$(PYTHON) -m pytest -m "not slow" -n $(WORKERS) $(ARGS) || $(AGAIN)
	$(PYTHON) -m pytest -m slow -n 3 --dist loadfile $(ALONE:%=--ignore=%) $(ARGS) || $(AGAIN)
	$(PYTHON) -m pytest -m slow $(ALONE) $(ARGS) || $(AGAIN)

format: ## ruff format; only checks when CI is set
	$(BIN)/ruff format --quiet $(if $(FIX),,--check --diff) .

lint: ## ruff check; mends what it can unless CI is set
	$(BIN)/ruff check --quiet $(if $(FIX),--fix) .

types: ## mypy strict
	$(BIN)/mypy $(CODE) conftest.py

layers: ## import-linter: imports point down
	@$(BIN)/lint-imports --verbose >build/layers.log 2>&1 && tail -n 1 build/layers.log || { cat build/layers.log; false; }

fast: ## the tests not marked slow
	$(PYTHON) -m pytest -q -m "not slow" -n $(WORKERS) $(WITH_SERVERS:%=--ignore=%) $(ARGS)

scenarios: setup ## the table of SCENARIOS.md with pass or fail by number
	$(PYTHON) -m tests.scenarios.table $(ARGS)

bench: setup ## every benchmark, each with its aim or yardstick; options: make bench ARGS="..."
	$(PYTHON) -m benchmarks $(ARGS)

faults: setup ## the fault table, measured, and 100,000 steps of every class, 20 minutes; options: make faults ARGS="--broker nats --long"
	$(PYTHON) -m tests.models.test_classes --steps 100000
	$(PYTHON) -m tests.faults $(ARGS)

# uv.lock would name hosts; these do not. dev.txt is the widest, and the other two may not differ from it.
# UPGRADE=1 moves everything to the newest allowed versions.
COMPILE := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 \
	--generate-hashes --no-emit-package store-gateway $(if $(UPGRADE),--upgrade)

lock: ## writes requirements/*.txt anew; newest versions with UPGRADE=1
	$(COMPILE) pyproject.toml --all-extras -o requirements/dev.txt >/dev/null
	$(COMPILE) --group build --constraint requirements/dev.txt -o requirements/build.txt >/dev/null
	$(COMPILE) pyproject.toml --extra store --constraint requirements/dev.txt -o requirements/store.txt >/dev/null

clean: ## removes caches and build products, keeps .venv
	rm -rf build dist .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +
