# `make quickstart` and `make test` need Python 3.10 to 3.13 and nothing else.
# VENV=FOLDER takes another environment, PYTHON=python3.12 another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process of tests for each CPU; each has one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

.PHONY: quickstart test test-all test-newest test-oldest lint check format audit

quickstart: $(VENV)/runs
	$(BIN)/rcsd quickstart

test: $(VENV)/tests
	$(PYTEST)

# Also what takes long; tests that need a GPU, a network or an extra skip.
test-all: $(VENV)/tests
	$(PYTEST) -m "not gpu and not network"

# The newest releases, as `pip install .` takes them, and the oldest that pyproject.toml allows (there PYTHON=python3.10
# is meant), each in an environment made anew: the quick quickstart, then the tests of what uses these libraries.
# Warnings of libraries beside releases that we did not choose are shown and fail nothing.
test-newest: RESOLUTION := highest
test-oldest: RESOLUTION := lowest-direct
test-newest test-oldest:
	rm -rf $(VENV)-$@
	$(PYTHON) -m venv $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-$@/bin/uv pip install --quiet --python $(VENV)-$@/bin/python --resolution $(RESOLUTION) -e .
	$(VENV)-$@/bin/uv pip install --quiet --python $(VENV)-$@/bin/python beartype hypothesis pytest pytest-xdist
	$(VENV)-$@/bin/uv pip freeze --quiet --python $(VENV)-$@/bin/python > $(VENV)-$@/versions.txt
	$(VENV)-$@/bin/rcsd quickstart --quick --out $(VENV)-$@/quickstart
	OMP_NUM_THREADS=1 $(VENV)-$@/bin/python -m pytest --numprocesses auto -W default tests/engines tests/models tests/training

lint: $(VENV)/tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test

format: $(VENV)/tests
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Known advisories of the exact versions; asks a service on the network, so `make check` leaves it out.
# The newest auditor, in an environment of its own. --strict: what cannot be asked after is no pass.
audit:
	test -x $(VENV)-audit/bin/python || $(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip-audit
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt || \
	  { echo "NOT audited, or advisories above: see the last lines of pip-audit" >&2; exit 1; }

# What running needs; then what testing needs beside it.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/runs: pyproject.toml constraints.txt
	@echo "Installing into $(VENV); the first time takes a minute or two."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/tests: $(VENV)/runs
	@echo "Installing what tests need into $(VENV)."
	$(INSTALL) -e ".[dev]"
	@touch $@
