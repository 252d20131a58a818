# A wrapper around pip and python; everything here can be typed by hand (see CONTRIBUTING.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
SOURCES := pyproject.toml src/isocenter/version.py

.PHONY: demo test coverage check bench docs format clean

demo: $(VENV)/.learn
	@$(BIN)/isocenter demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto

coverage: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site
	@$(BIN)/python -m pytest -q --no-header -p no:cacheprovider --markdown-docs README.md README.zh.md docs

bench: $(VENV)/.bench
	@$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	@$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

$(VENV)/bin/python:
	@echo "making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python $(SOURCES)
	@echo "installing isocenter"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.learn: $(VENV)/bin/python $(SOURCES)
	@echo "installing isocenter with PyTorch, which runs its networks"
	@$(PIP) install -e '.[learn]'
	@touch $@ $(VENV)/.base

$(VENV)/.dev: $(VENV)/bin/python $(SOURCES)
	@echo "installing isocenter and what its tests need"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.base $(VENV)/.learn

$(VENV)/.bench: $(VENV)/bin/python $(SOURCES)
	@echo "installing isocenter and what it is measured against"
	@$(PIP) install -e '.[bench]'
	@touch $@ $(VENV)/.base
