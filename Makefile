# Needs python3 (3.11 or newer) with pip, and the package index for the first run; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-release test-oldest coverage lint benchmark docs notebooks clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "jaxmap needs Python 3.11 or newer; give one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@# Debian's python3 has no ensurepip; virtualenv brings its own pip.
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
		$(PYTHON) -m pip install --quiet --target $(VENV)-bootstrap virtualenv \
		&& PYTHONPATH=$(VENV)-bootstrap $(PYTHON) -m virtualenv --quiet $(VENV) \
		&& rm -rf $(VENV)-bootstrap; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	@$(BIN)/jaxmap demo

# One process per core: most of the time goes to compiling, which is serial.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --durations 25

# What users type runs in the default float32; all else in float64, files of maps in both.
QUICK := not slow and not release
COMMANDS := tests/test_cli.py tests/test_cli_refusals.py tests/test_benchmark.py tests/test_readme.py
test: setup
	@$(PYTEST) -m "$(QUICK)" $(COMMANDS:%=--ignore=%)
	@JAX_ENABLE_X64=false $(PYTEST) -m "$(QUICK)" $(COMMANDS) \
		tests/test_diagnostics.py tests/test_mapfiles.py

test-slow: setup
	@$(PYTEST) -m "slow and not release"

# What takes minutes each: too long for CI as a whole.
test-release: setup
	@$(PYTEST) -m release

# Does what pyproject.toml declares suffice? The oldest versions, and a part of the tests.
OLDEST := .venv-oldest
test-oldest:
	@$(PYTHON) -m venv $(OLDEST)
	@$(PYTHON) tests/oldest.py > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(OLDEST)/constraints.txt --editable ".[plot,io,dynamics]" pytest hypothesis
	@$(OLDEST)/bin/python -m pytest -m "$(QUICK)" -W default tests/test_grid.py tests/test_catalog.py \
		tests/test_readers.py tests/test_weights.py tests/test_mapfiles.py tests/test_sparse.py \
		tests/test_operators.py tests/test_program_memory.py tests/test_training_loop.py

# Lines and branches that the quick and the longer tests run: a table, and
# experiments/results/covered.json. Longer than `make test test-slow` by about half.
coverage: setup
	@$(PYTEST) -m "not release" --cov jaxmap --cov-branch --cov-report json --cov-report term
	@$(BIN)/python experiments/covered.py --found coverage.json

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

benchmark: setup
	@for script in $$(ls experiments/benchmarks/*.py | grep -v common); do $(BIN)/python $$script || exit 1; done

# The scripts are the source; JAXMAP_FAST=1 make docs runs them small.
notebooks: setup
	@for script in notebooks/*.py; do $(BIN)/python -m jupytext --quiet --to ipynb $$script || exit 1; done

docs: setup notebooks
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[docs]"
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@$(BIN)/python docs/built_links.py docs/_build/html
	@echo "Wrote docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) jaxmap-demo docs/_build docs/_made
