# Everything is done in .venv, which `setup` makes from the pinned requirements. `make` alone lists the targets.

SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
MADE := $(VENV)/pyvenv.cfg
# When the stamp is newer than the requirements they are installed.
RUNTIME := $(VENV)/.installed-runtime
DEVELOPMENT := $(VENV)/.installed-development
# The demo has files of its own, so that it never mixes with your data.
DEMO := TRIMTAB_DB=data/demo.duckdb TRIMTAB_INBOX=data/demo-inbox
PYTEST ?= -n 2 --dist loadfile -m 'not thorough'
# A Python of your choice: make setup PYTHON3=/path/to/python3.12
PYTHON3 ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DELETE_ON_ERROR:
.PHONY: help setup demo run test thorough fuzz bench audit lock

help:
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(RUNTIME) ## set up only: .venv with the pinned requirements

demo: $(RUNTIME) ## load a simulated deployment, run every job once, serve at http://127.0.0.1:8501
	$(DEMO) $(PYTHON) -m pipelines demo
	$(DEMO) $(PYTHON) -m dashboard.server

run: $(RUNTIME) ## serve your own data (empty at first) at the same address
	$(PYTHON) -m dashboard.server

test: $(DEVELOPMENT) ## run linters, type checks and the tests
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	cd docs/client && $(abspath $(PYTHON)) -m mypy --strict trimtab_steer.py example_agent.py
	$(VENV)/bin/lint-imports
	$(PYTHON) -m pytest $(PYTEST) --ignore=tests/browser
	$(PYTHON) -m pytest $(PYTEST) tests/browser

thorough: $(DEVELOPMENT) ## run the long simulations of coverage and power too
	$(PYTHON) -m pytest -n 2 --dist loadfile -m thorough

fuzz: $(DEVELOPMENT) ## feed the OTLP decoders random input for ten minutes
	$(PYTHON) tests/fuzz_otel.py

bench: $(DEVELOPMENT) ## run the benchmarks; writes bench/RESULTS.md
	$(PYTHON) -m bench

audit: $(DEVELOPMENT) ## ask for known flaws of the pinned packages; needs the network
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	python=$$($(CHOOSE)); "$$python" .ci/make_venv.py "$$folder"; "$$folder/bin/python" -m pip install --quiet pip-audit; \
	"$$folder/bin/pip-audit" --strict --no-deps --disable-pip -r requirements.txt

lock: ## compile requirements*.in to the pinned requirements*.txt
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	python=$$($(CHOOSE)); "$$python" .ci/make_venv.py "$$folder"; "$$folder/bin/python" -m pip install --quiet uv; \
	for name in requirements requirements-dev; do \
		UV_CUSTOM_COMPILE_COMMAND="make lock" "$$folder/bin/uv" pip compile --quiet --universal --python-version 3.11 \
			--no-annotate $$name.in -o $$name.txt; \
	done

# The first Python from 3.11 to 3.13 that really starts (a version manager's shim may not).
define CHOOSE
for name in "$(PYTHON3)" python3.13 python3.12 python3.11 python3 python; do \
	[ -n "$$name" ] && "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
		&& echo "$$name" && exit 0; \
done; \
echo "error: Python 3.11, 3.12 or 3.13 is needed and none was found." >&2; exit 1
endef

$(MADE):
	@set -e; python=$$($(CHOOSE)); echo "Making $(VENV) with $$("$$python" --version)"; "$$python" .ci/make_venv.py $(VENV)

$(RUNTIME): requirements.txt | $(MADE)
	$(PYTHON) -m pip install --quiet -r requirements.txt
	@touch $@

$(DEVELOPMENT): requirements-dev.txt | $(MADE)
	$(PYTHON) -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(RUNTIME)
