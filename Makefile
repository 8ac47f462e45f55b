PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
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

$(VENV)/.demo: pyproject.toml models/mini/pyproject.toml | compiler
	$(PYTHON) scripts/make_venv.py $(VENV)
	$(PIP) install --editable '.[mini]' ./models/mini
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt models/mini/pyproject.toml | compiler
	$(PYTHON) scripts/make_venv.py $(VENV)
	$(PIP) install --constraint constraints.txt --editable '.[dev]' ./models/mini
	touch $@

.PHONY: compiler
compiler:
	@command -v c++ > /dev/null && command -v cc > /dev/null || { \
	  echo "edge-et compiles llama.cpp and found no C/C++ compiler; on Debian: apt install build-essential" >&2; \
	  exit 1; }

clean:
	rm -rf $(VENV) build dist *.egg-info
