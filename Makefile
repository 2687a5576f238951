# Two commands do all the set-up: `make demo` and `make test`. Needs Linux and python3 >= 3.11.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := detector_jax drocc_jax fingerprint_jax launch configs benchmarks tests notebooks docs

.PHONY: demo test test-all test-fast gpu-check coverage docs lint format install clean

demo: $(VENV)/.installed
	$(RUN) -m benchmarks.demo --output=runs/demo

test: $(VENV)/.installed-dev lint
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile -m "not long"

test-all: $(VENV)/.installed-dev lint
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile

test-fast: $(VENV)/.installed-dev lint
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not long"

gpu-check: $(VENV)/.installed-dev
	$(RUN) -m benchmarks.gpu_check --output=gpu_check.json

coverage: $(VENV)/.installed-dev
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not long" --cov --cov-report=term:skip-covered

docs: $(VENV)/.installed-docs
	$(RUN) -m pytest --quiet tests/test_docs.py
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/mypy

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix $(SOURCES)
	$(VENV)/bin/ruff format $(SOURCES)

install: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[launch,dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[launch,dev,docs]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-dev

clean:
	rm -rf $(VENV) runs build *.egg-info
