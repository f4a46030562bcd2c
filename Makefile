# The one-command tasks. Each is a line or two; scripts hold the logic.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev

.PHONY: help setup demo test quick lint fmt ci bench bench-logs bench-tail fuzz build lock clean
help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(STAMP): requirements/runtime.txt pyproject.toml scripts/setup
	@scripts/setup runtime $(PYTHON) $(VENV)

$(DEV): requirements/dev.txt pyproject.toml scripts/setup
	@scripts/setup dev $(PYTHON) $(VENV)

setup: $(DEV)    ## a virtual environment with everything developers need

demo: $(STAMP)   ## watch the daemon heal a rehearsal cloud (no root, Ctrl-C ends it)
	@$(BIN)/stackward demo

test: $(DEV)     ## every test that this machine can run; says what it left out and why
	@scripts/run-tests

quick: $(DEV)    ## the tests that need no real parts
	@$(BIN)/pytest -q -n auto -m "not integration and not slow"

lint: $(DEV)     ## ruff, mypy --strict, import-linter, codespell, hadolint
	@scripts/lint

fmt: $(DEV)      ## format and apply the safe fixes
	@$(BIN)/ruff format daemon tests scripts && $(BIN)/ruff check --fix daemon tests scripts

ci: $(DEV)       ## what CI runs: lint, wheel, every test with nothing left out
	@scripts/lint && $(BIN)/python -m hatchling build -t wheel >/dev/null && scripts/run-tests --require-everything

bench: $(DEV)    ## CPU per poll beside one ssh per poll (under three minutes)
	@$(BIN)/python scripts/bench_polls.py

bench-logs: $(DEV) ## lines per CPU second beside mtail (under five minutes)
	@$(BIN)/python scripts/bench_logs.py

bench-tail: $(DEV) ## from a line written in a VM to /metrics, at 200 VMs (under two minutes)
	@$(BIN)/python scripts/bench_tail.py

fuzz: $(DEV)     ## ten minutes of odd bytes for readers of logs (SECONDS=600)
	@scripts/fuzz $(or $(SECONDS),600)

build: $(DEV)    ## the wheel
	@$(BIN)/python -m hatchling build -t wheel

lock:            ## pin requirements again, with hashes and without index addresses (needs uv)
	@for f in runtime dev; do uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-markers --no-header requirements/$$f.in -o requirements/$$f.txt; done

clean:           ## remove what the targets made
	@rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
