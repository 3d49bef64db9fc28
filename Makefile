# `make help` says what there is. Variables: VENV, MPI, PYTHON, TORCH_FROM (see tools/setup.sh), ARGS (for pytest, such as
# -n 0 for one process; of bench: which ones).

VENV ?= .venv
MPI ?= auto
PYTHON ?= python3
TORCH_FROM ?=
ARGS ?=
export VENV MPI PYTHON TORCH_FROM

run := tools/run.sh
python_files := src tests tools jobs setup.py $(wildcard benchmarks docs/*.py docs/gallery)
shell_files := .ci/run $(wildcard tools/*.sh packaging/*.sh slurm/*.sh slurm/*.sbatch)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-fast lint format bench docs reference wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv with MPI, parallel HDF5 and everything else; MPI=pip needs neither root nor apt
	@tools/setup.sh

demo: setup ## train small networks, sweep them on 4 ranks, draw the figures; no download
	@$(run) bash tools/demo.sh

# What Python compiles is kept: eight seconds of a core for the tests, a quarter of a second for each command that starts.
pytest := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(run) python -m pytest

# Four processes of pytest on two cores: tests of SLURM, of limits and of locks mostly wait.
test: setup lint ## everything: linters, then all tests; ARGS='-k name' picks some
	$(pytest) -n 4 $(ARGS)

test-fast: setup ## the tests that take less than 0.15 seconds of a core each and start no mpirun, in a minute
	$(pytest) -n 2 -m "not slow and not mpi" $(ARGS)

lint: setup ## style, types, import contracts, shell scripts
	$(run) ruff check $(python_files)
	$(run) ruff format --check $(python_files)
	$(run) mypy
	$(run) lint-imports --no-logo
	@if command -v shellcheck >/dev/null; then shellcheck $(shell_files); else echo "shellcheck is not installed: shell scripts not checked"; fi

format: setup ## let ruff correct style and layout
	$(run) ruff check --fix $(python_files)
	$(run) ruff format $(python_files)

bench: setup ## the benchmarks, five minutes on two free cores: benchmarks/results/ and docs/performance.md
	$(run) python benchmarks/report.py $(ARGS)

reference: setup ## the tables of docs/job.md and docs/commands.md, from the code
	$(run) python tools/reference.py

docs: setup ## the documentation as a site: docs/_build/html/index.html
	$(run) sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

wheel: setup ## dist/: the sources, and a wheel with the kernels inside, checked by auditwheel
	@$(run) bash tools/wheel.sh

clean: ## remove what was built, measured and cached; keeps .venv
	rm -rf build dist demo docs/_build docs/examples docs/sg_execution_times.rst .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	find src tests tools -name __pycache__ -type d -exec rm -rf {} +
