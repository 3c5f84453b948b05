# One command for each job; `make help` lists them. Everything is installed into .venv.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
SPREAD := -n 4 --dist loadfile --no-loadscope-reorder
STAMP := .venv/.offbook-installed

# Else each of the many processes of the tests compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-audit browser outfit test test-core chaos-streams chaos-rests chaos-pydantic crash-points check mypy pyright rules bench bench-peers bench-workers scale clean chaos abuse soak simulate corrupt fuzz test-catalogue test-sealed canary seals test-browsers demo-kills chaos-agents cluster

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with offbook and all that its tests need

$(STAMP): pyproject.toml constraints/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "offbook needs Python 3.11 or newer: make setup PYTHON=python3.11" >&2; exit 1; }
	@echo "installing into .venv, which takes some minutes, and pip is silent meanwhile"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/dev.txt -e . --group dev
	@touch $@

demo: $(STAMP) $(if $(findstring --check,$(ARGS)),browser) ## run the coding agent and print its address; ARGS=--check plays it in a browser
	@$(BIN)/python examples/coding_agent/demo.py $(ARGS)

demo-kills: $(STAMP) browser ## play the coding agent in a browser, with a kill at each moment
	@$(BIN)/python examples/coding_agent/demo.py --check --kills $(ARGS)

demo-audit: $(STAMP) ## run the audit example; options in ARGS="..."
	$(BIN)/python examples/audit/demo.py $(ARGS)

browser: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m support.outfit chromium

outfit: $(STAMP) ## install what tests of npm clients and browsers need: node, chromium, packages
	PYTHONPATH=tests $(BIN)/python -m support.outfit

test: $(STAMP) outfit ## run all tests, in random order on four processes, which often wait
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-core: $(STAMP) ## run the tests that are quick and need no browser
	$(BIN)/python -m pytest $(SPREAD) -m 'not slow' $(ARGS)

crash-points: $(STAMP) ## crash at every point of every shape; make test draws one in fifteen
	OFFBOOK_CRASH=full $(BIN)/python -m pytest -n 2 --timeout 1200 tests/crash $(ARGS)

chaos: $(STAMP) ## harm workers, server and links under load and judge; options in ARGS="..."
	$(BIN)/python -m offbook.ops.chaos run $(ARGS)

cluster: $(STAMP) ## kill, lose and restart nodes of a cluster and workers, and judge; options in ARGS="..."
	OFFBOOK_CHAOS=full $(BIN)/python -m pytest -q -p no:randomly tests/recovery/test_cluster.py
	$(BIN)/python -m offbook.ops.chaos cluster $(ARGS)

abuse: $(STAMP) ## drain, overload and poison workers; print what it does to the others
	$(BIN)/python -m offbook.ops.chaos drain
	$(BIN)/python -m offbook.ops.chaos overload
	$(BIN)/python -m offbook.ops.chaos poison

soak: $(STAMP) ## load evenly for 30 minutes and print what grows; options in ARGS="..."
	$(BIN)/python -m offbook.ops.chaos soak $(ARGS)

test-catalogue: $(STAMP) ## run the whole catalogue in all six ways
	OFFBOOK_CATALOGUE=full $(BIN)/python -m pytest $(SPREAD) tests/conformance $(ARGS)

test-sealed: $(STAMP) ## run the catalogue with a cipher on, which takes nothing in the clear
	OFFBOOK_TEST_SEALED=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/conformance $(ARGS)

canary: $(STAMP) ## look for a secret on a real server, in logs, spans, metrics and lists
	OFFBOOK_CANARY=full $(BIN)/python -m pytest -q -p no:randomly tests/adapters/cipher/test_canary.py $(ARGS)

seals: $(STAMP) ## 100,000 forged frames, and keys that change under 1,000 runs
	OFFBOOK_FORGERIES=100000 OFFBOOK_ROTATED=1000 $(BIN)/python -m pytest -q -p no:randomly \
		--timeout 600 tests/adapters/cipher/test_frames.py tests/adapters/cipher/test_sealed_runs.py $(ARGS)

test-browsers: $(STAMP) outfit ## play useChat in Chromium with each major of the AI SDK
	OFFBOOK_BROWSERS=full $(BIN)/python -m pytest -q -p no:randomly tests/adapters/ai_sdk/test_browser.py $(ARGS)

chaos-streams: $(STAMP) ## kill writers and readers of streams at full size; options in ARGS="..."
	OFFBOOK_CHAOS=full $(BIN)/python -m pytest -q -s -p no:randomly tests/recovery/test_stream_chaos.py $(ARGS)

chaos-rests: $(STAMP) ## kill workers and server while runs wait for topics and for other runs
	OFFBOOK_CHAOS=full $(BIN)/python -m pytest -q -p no:randomly tests/recovery/test_resting.py $(ARGS)

chaos-agents: $(STAMP) ## kill an agent's worker at every write of its run; options in ARGS="..."
	OFFBOOK_CHAOS=full $(BIN)/python -m pytest -q -p no:randomly tests/recovery/test_agents.py \
		tests/examples/test_examples.py -k 'agent' $(ARGS)

chaos-pydantic: $(STAMP) ## kill agents of pydantic-ai at more places; options in ARGS="..."
	OFFBOOK_CHAOS=full $(BIN)/python -m pytest -q -p no:randomly tests/recovery/test_pydantic_agents.py $(ARGS)

simulate: $(STAMP) ## play seeds of the simulation; ARGS="--seeds 1000 --from 0"
	PYTHONPATH=tests $(BIN)/python -m simulation $(ARGS)

corrupt: $(STAMP) ## read 100,000 damaged histories; ARGS="--count 1000000 --seed 1"
	PYTHONPATH=tests $(BIN)/python -m corruption $(ARGS)

# Atheris is wanted here alone, and is not there for each Python and system.
fuzz: $(STAMP) ## fuzz what reads foreign bytes; ARGS="mail -max_total_time=600"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3.0'
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

check: $(STAMP) ## format, lint, types, layers and house rules; no other tests
	@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target pyright mypy rules

mypy:
	$(BIN)/mypy

pyright:
	$(BIN)/pyright --pythonpath $(BIN)/python

rules:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_tidy.py

bench: $(STAMP) ## measure; prints a table and writes bench/out/*.json
	$(BIN)/python -m bench $(ARGS)

scale: $(STAMP) ## measure among 100,000 waiting runs; ARGS="--runs 1000000"
	$(BIN)/python -m bench.scale $(ARGS)

bench-workers: $(STAMP) ## measure 1, 2 and 4 worker processes; options in ARGS="..."
	$(BIN)/python -m bench.workers $(ARGS)

bench-peers: $(STAMP) ## measure offbook beside its peers, which it installs; options in ARGS="..."
	$(BIN)/python -m bench.peers $(ARGS)

clean: ## remove all that make and the tools have made, .venv too
	rm -rf .venv .venv-peers build dist bench/out .coverage .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache tests/npm/*/node_modules tests/llm/node_modules \
		bench/peers/npm/node_modules examples/*/page/node_modules
	find actors adapters agent bench examples ops src tests -name __pycache__ -type d -prune -exec rm -rf {} +
