# `make demo` and `make test` are all a newcomer needs; both set up what they use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
JOBS   ?= auto

.PHONY: setup demo test test-nojit test-bounds check lint types imports proto proto-check bench sim clean help

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## setup    make .venv with everything that runs, tests and checks the project
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

## test     run the tests, in parallel
test: setup
	$(BIN)/python -m sched_core.warmup --parallel
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

## test-nojit   the tests of the scheduling core with its kernels interpreted, on small examples
test-nojit: setup
	NUMBA_DISABLE_JIT=1 SCHED_EXAMPLES=25 $(BIN)/python -m pytest -n $(JOBS) tests/sched $(ARGS)

## test-bounds  the same compiled with every index checked (kernels are kept apart from the others)
test-bounds: setup
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m sched_core.warmup
	NUMBA_BOUNDSCHECK=1 SCHED_EXAMPLES=60 $(BIN)/python -m pytest -n $(JOBS) tests/sched $(ARGS)

## check    lint, types, import rules, generated code up to date
check: lint types imports proto-check

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

## proto    generate crane/v1 and crane/log/v1 from proto/
proto: setup
	$(BIN)/python proto/generate.py

proto-check: setup
	$(BIN)/python proto/generate.py --check

## demo     a real cluster on this machine: run jobs, show and check the results, clean up
demo: setup
	$(BIN)/python -m bench.demo

## bench    run every benchmark scenario (bench/README.md)
bench: setup
	$(BIN)/python -m bench all

## sim      replay one seed of the simulation: make sim SEED=17
sim: setup
	$(BIN)/python -m cranectld.sim --seed $(SEED) --story

## clean    remove the environment and everything generated on this machine
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
