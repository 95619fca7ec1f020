# Needs python3 (3.11 or newer) with pip, and the package index for the first run; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-release oldest newest test-oldest test-newest coverage lint \
	benchmark docs notebooks clean

# Debian's python3 has no ensurepip; virtualenv brings its own pip.
new_venv = $(1) -m venv $(2) 2>/dev/null || { rm -rf $(2); \
	$(1) -m pip install --quiet --target $(2)-bootstrap virtualenv \
	&& PYTHONPATH=$(2)-bootstrap $(1) -m virtualenv --quiet $(2) \
	&& rm -rf $(2)-bootstrap; }

INSTALL := -m pip install --quiet --disable-pip-version-check

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "jaxmap needs Python 3.11 or newer; give one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(call new_venv,$(PYTHON),$(VENV))
	@$(BIN)/python $(INSTALL) --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	@$(BIN)/jaxmap demo

# One process per core. Most of the time goes to compiling, which is serial and takes far less
# where LLVM does not optimise; `make test-release` compiles as users do. Much of what is left goes
# to how XLA fuses loops, by a flag that its newest versions do not know and stop at.
PLAIN := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
SOON := XLA_FLAGS="$(PLAIN) --xla_cpu_use_fusion_emitters=false $$XLA_FLAGS"
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	--durations 25

# What users type runs in the default float32; all else in float64, files of maps in both.
QUICK := not slow and not release
COMMANDS := tests/test_cli.py tests/test_cli_refusals.py tests/test_benchmark.py tests/test_readme.py
test: setup
	@$(SOON) $(PYTEST) -m "$(QUICK)" $(COMMANDS:%=--ignore=%)
	@$(SOON) JAX_ENABLE_X64=false $(PYTEST) -m "$(QUICK)" $(COMMANDS) tests/test_mapfiles.py

test-slow: setup
	@$(SOON) $(PYTEST) -m "slow and not release"

# What takes minutes each: too long for CI as a whole.
test-release: setup
	@$(PYTEST) -m release

# Does what pyproject.toml declares suffice? A part of the tests: with the oldest versions, and with
# the newest on the newest Python that is found here.
PART := $(addprefix tests/test_,grid.py catalog.py readers.py weights.py mapfiles.py sparse.py \
	operators.py program_memory.py training_loop.py)
WITH := --editable ".[plot,io,dynamics]" pytest hypothesis pytest-xdist

OLDEST := .venv-oldest
oldest:
	@$(call new_venv,$(PYTHON),$(OLDEST))
	@$(PYTHON) tests/oldest.py > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python $(INSTALL) --constraint $(OLDEST)/constraints.txt $(WITH)

test-oldest: oldest
	@echo "Tests with the oldest versions, jax $$($(OLDEST)/bin/python -c 'import jax; print(jax.__version__)')"
	@$(SOON) $(OLDEST)/bin/python -m pytest -n auto --dist loadfile -m "$(QUICK)" $(PART)

NEWEST := .venv-newest
NEWER := python3.13 python3.12 $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3)
newest:
	@python=$$(for one in $(NEWER) $(PYTHON); do $$one -c "" 2>/dev/null && echo $$one && break; done); \
		$(call new_venv,$$python,$(NEWEST))
	@$(NEWEST)/bin/python $(INSTALL) --upgrade $(WITH)

test-newest: newest
	@$(NEWEST)/bin/python -c 'import sys, jax; \
		print(f"Tests with the newest versions, jax {jax.__version__}, Python {sys.version.split()[0]}")'
	@XLA_FLAGS="$(PLAIN) $$XLA_FLAGS" $(NEWEST)/bin/python -m pytest -n auto --dist loadfile -m "$(QUICK)" $(PART)

# Lines and branches that the quick and the longer tests run: a table, and
# experiments/results/covered.json. Longer than `make test test-slow` by about half.
coverage: setup
	@$(SOON) $(PYTEST) -m "not release" --cov jaxmap --cov-branch --cov-report= \
		$(COMMANDS:%=--ignore=%)
	@$(SOON) JAX_ENABLE_X64=false $(PYTEST) -m "not release" --cov jaxmap --cov-branch --cov-append \
		--cov-report json --cov-report term $(COMMANDS)
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
	@$(BIN)/python $(INSTALL) --constraint constraints.txt --editable ".[docs]"
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@$(BIN)/python docs/built_links.py docs/_build/html
	@echo "Wrote docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) jaxmap-demo docs/_build docs/_made
