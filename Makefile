# Everything a fresh machine needs: python3 (3.10 or newer) with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES ?=

.PHONY: setup demo test lint docs-check clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

# Renders sample products (or takes IMAGES=folder), ranks them and draws heat maps into demo/.
demo: $(VENV)/.ready
	@$(BIN)/python -m zeroflaw.demo $(if $(IMAGES),--images "$(IMAGES)") -o demo

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo dist build
