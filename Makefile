PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TOOL_FOLDERS := benchmarks export quantize tuning

.PHONY: demo test check-all lint types unit clean

demo: $(VENV)/.demo
	$(BIN)/edge-et answer examples/cat.png "What is this?" --show-stages

test: lint types unit

# What takes minutes, too. Started again, it goes on with the tests that have not passed.
check-all: test
	$(BIN)/python scripts/check_all.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not follow the import hook of an editable install, so they get one plain tree.
types: $(VENV)/.test
	rm -rf build/types && mkdir -p build/types
	cp -r edge_et build/types/edge_et
	for folder in $(TOOL_FOLDERS); do cp -r $$folder build/types/edge_et/$$folder; done
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml edge_et

unit: $(VENV)/.test
	$(BIN)/pytest

$(VENV)/.demo: pyproject.toml models/mini/pyproject.toml
	$(PYTHON) scripts/install.py $(VENV) demo
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt models/mini/pyproject.toml
	$(PYTHON) scripts/install.py $(VENV) dev
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
