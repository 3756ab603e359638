# make demo: first contact. make test: everything. make check: format, lint, types, floors.
.DELETE_ON_ERROR:
.PHONY: demo test check reliability validation bench clean

DATA := $(firstword $(EO_CAUSAL_DATA) $(wildcard ../shared/data))
export EO_CAUSAL_DATA := $(if $(DATA),$(abspath $(DATA)),)
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1
export GDAL_CACHEMAX := 128
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

demo: .venv/installed
	$(BIN)/eo-causal run configs/demo/water_clarity.yaml

test: check .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadscope --durations=25 tests

check: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Full sizes of what the suite runs small.
reliability: .venv/installed-test
	EO_CAUSAL_SIZE=full $(BIN)/python -m pytest tests/pipelines/test_kill.py tests/reliability

validation: .venv/installed-test
	EO_CAUSAL_SIZE=full $(BIN)/python -m pytest -m statistics tests

bench: .venv/installed-test
	$(PIP) -e '.[test,bench]'
	for script in tests/benchmarks/b[0-9]*.py; do $(BIN)/python $$script || exit 1; done

.venv/python:
	@for name in "$$PYTHON" python3.12 python3.13 python3.14 python3 python; do \
	  if [ -n "$$name" ] && "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	    "$$name" -m venv .venv && touch $@ && exit 0; fi; done; \
	echo "eo_causal needs Python 3.12 or newer; none was found." >&2; \
	echo "Install it (Debian/Ubuntu: apt install python3.12 python3.12-venv; macOS: brew install python@3.12)," >&2; \
	echo "or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1

.venv/installed: .venv/python pyproject.toml constraints.txt
	@echo "Installing eo_causal and its libraries into .venv (about 7 GB, a few minutes) ..."
	$(PIP) -e .
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) -e '.[test]'
	@touch $@

clean:
	rm -rf .venv runs build dist
