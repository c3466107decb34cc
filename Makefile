# One command for each thing that is done with this checkout; `make help` lists them.
# All but bench need nothing but make, bash, Python 3.11 or later with venv, and a package index for pip.

PYTHON  ?= python3
WORKERS ?= 2

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup lint test test-long mutation-check test-lowest test-spark test-workers test-free-threaded demo notebooks bench bench-engines clean

VENV    := .venv
LOWEST  := .venv-lowest
SPARK   := .venv-spark
ENGINES := .venv-engines
FREE    := .venv-free-threaded
BUILT_FROM := pyproject.toml hatch_build.py rigorous_recorder/_native.c
PIP    := -m pip --disable-pip-version-check --quiet install

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/.installed ## make the virtual environment .venv with all that the other commands need

# A stamp is touched last, so an interrupted installation starts again, and a finished one is instant.
$(VENV)/.installed: $(BUILT_FROM)
	$(call new_venv,$(VENV))
	$(VENV)/bin/python $(PIP) --editable '.[dev]'
	touch $@

# Every `>=` among the core dependencies becomes `==`: the oldest versions that we say we support.
$(LOWEST)/.installed: $(BUILT_FROM)
	$(call new_venv,$(LOWEST))
	$(LOWEST)/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*(line.replace(">=", "==", 1) for line in project["dependencies"]), sep="\n")' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(PIP) --editable '.[test]' --constraint $(LOWEST)/lowest.txt
	touch $@

$(SPARK)/.installed: $(BUILT_FROM)
	$(call new_venv,$(SPARK))
	$(SPARK)/bin/python $(PIP) --editable '.[test,spark]'
	touch $@

$(ENGINES)/.installed: $(BUILT_FROM)
	$(call new_venv,$(ENGINES))
	$(ENGINES)/bin/python $(PIP) --editable '.[test-workers]'
	touch $@

define new_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or later is needed. Hint: make PYTHON=python3.12 ..." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	|| { echo "$(PYTHON) cannot make virtual environments. Hint: on Debian, apt install python3-venv" >&2; exit 1; }
$(PYTHON) -m venv $(1)
endef

lint: setup ## style, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint ## lint, then all tests but the long ones
	$(VENV)/bin/python -m pytest -n $(WORKERS)

# Hours: one row of the plan in tests/plan.py by ROW=kill, what is not passed yet by RESUME=1. Each test's outcome is in $(RELIABILITY_LOG)
# as soon as it is there; from it comes the table of what was reached, for docs/reliability.md.
ROW             ?=
RESUME          ?=
RELIABILITY_LOG ?= build/reliability.jsonl

test-long: setup ## all tests with the figures of the long run, or one row (ROW=kill), or what is left (RESUME=1)
	mkdir -p build $(dir $(RELIABILITY_LOG))
	HYPOTHESIS_PROFILE=long RELIABILITY_LOG=$(RELIABILITY_LOG) RESUME=$(RESUME) $(VENV)/bin/python -m pytest -n $(WORKERS) \
		--timeout=3600 -m $(if $(ROW),"row(key='$(ROW)')","long or not long") || [ $$? -eq 5 ]
	$(VENV)/bin/python tests/plan.py $(RELIABILITY_LOG) | tee build/reliability.md

mutation-check: setup ## take out one mechanism at a time; each time a test must fail
	WORKERS=$(WORKERS) $(VENV)/bin/python tests/mutation_check.py

# But those that ask the operating system the same, whatever the libraries are: they take a good part of the time.
SAME_FOR_ALL  := fuzz hosts hosts_deletion scale benchmarks compact_storm power_cut workers delete disk_full sync selftest
SAME_CALLS    := every_system_call or truncated_at_every_byte or every_flipped_bit

test-lowest: $(LOWEST)/.installed ## the tests with the oldest supported libraries, and without the compiled hot path
	PLAN=small HYPOTHESIS_PROFILE=small RIGOROUS_RECORDER_PURE=1 $(LOWEST)/bin/python -m pytest -n $(WORKERS) \
		$(SAME_FOR_ALL:%=--ignore=tests/test_%.py) -k 'not ($(SAME_CALLS))'

test-spark: $(SPARK)/.installed ## the tests with a real Spark, which needs Java 17 or later
	$(SPARK)/bin/python -m pytest -k spark tests/test_spark.py tests/test_accessors.py tests/test_docs.py

test-workers: $(ENGINES)/.installed ## the tests with workers of Ray and Dask; those of others are in `make test`
	$(ENGINES)/bin/python -m pytest -k 'ray or dask or distributed' tests/test_workers.py tests/test_docs.py

# There are no wheels of polars for it, so it records, and the usual one reads; what waits for packs, which polars makes, is left out.
FREE_THREADED    ?= python3.14t
FREE_WITHOUT     := seals or sealed or polars or helper or power_cut or finalizer

test-free-threaded: setup ## recorders of a free-threaded Python (FREE_THREADED=python3.14t), whose records the usual one reads
	$(FREE_THREADED) -c 'import sys; sys.exit(sys._is_gil_enabled())'
	$(FREE_THREADED) -m venv $(FREE)
	$(FREE)/bin/python $(PIP) msgspec pytest hypothesis
	RECORDER_PYTHON=$(CURDIR)/$(FREE)/bin/python $(VENV)/bin/python -m pytest -n $(WORKERS) -k 'not ($(FREE_WITHOUT))' \
		$(patsubst %,tests/test_%.py,free_threaded kill processes fork interrupts attempts beginnings no_harm copies)

demo: setup ## a real study with a crash and a kill, and the report on it
	$(VENV)/bin/python examples/demo.py records/demo

notebooks: setup ## run the notebooks and keep their outputs in their files
	$(VENV)/bin/python notebooks/run.py notebooks/*.ipynb

bench: setup ## measure; prints a table
	$(VENV)/bin/python -m benchmarks

# BENCH='--quick' is a small run, BENCH='--markdown docs/performance.md' puts the table there.
BENCH ?=

bench-engines: $(SPARK)/.installed ## measure two questions in Spark, DuckDB and polars; prints a table as Markdown
	$(SPARK)/bin/python -m benchmarks --only spark --section engines $(if $(findstring --markdown,$(BENCH)),,--markdown -) $(BENCH)

clean: ## remove what these commands made (recorded data only of the demo)
	rm -rf $(VENV) $(LOWEST) $(SPARK) $(ENGINES) $(FREE) records/demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
