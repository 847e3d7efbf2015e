# Loopnest. `make` lists the targets.

PRESET ?= single
DTYPE ?= bf16
LIBERTY ?=
# folder with *.mtx.gz files, and what `make bench` takes besides
MATRICES ?=
BENCH ?=
# random cases of each kind, the first one's seed, and what `make fuzz` takes besides
N ?= 200
SEED ?= 0
KIND ?=
CHIPS ?=
# what `make mutate` takes besides
MUTATE ?=
# cycles that `make waves` records
FIRST ?= 0
LAST ?= 1000
# jobs of the tests
JOBS ?= 2
# any Python from 3.11 on
PYTHON ?= python3
OUT ?= build

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help sim test coverage mutate fuzz bench verilog diagrams lint timing waves clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

sim: $(READY) ## a sparse network on the simulated chip, checked bit for bit (minutes)
	$(BIN)/python -m loopnest.examples.digits

test: $(READY) ## every test and proof (JOBS=2)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup tests tb

coverage: $(READY) ## lines of the RTL that the benches run, by unit (JOBS=2)
	$(BIN)/python -m tb.coverage --jobs $(JOBS)

mutate: $(READY) ## random faults in the units: how many the benches notice (N=200 SEED=0 MUTATE="--report")
	$(BIN)/python -m tb.mutation $(N) --seed $(SEED) $(MUTATE)

fuzz: $(READY) ## random cases on the RTL (N=200 of each kind, SEED=0 KIND= CHIPS=)
	$(BIN)/python -m tests.fuzz $(N) --seed $(SEED) $(if $(KIND),--kind $(KIND),) \
	    $(if $(CHIPS),--chips $(CHIPS),)

bench: $(READY) ## cycles on real matrices beside their bounds (MATRICES=folder DTYPE= BENCH="names")
	$(BIN)/python -m loopnest.benchmarks --preset $(PRESET) --dtype $(DTYPE) \
	    $(if $(MATRICES),--matrices $(MATRICES),) $(BENCH)

verilog: $(READY) ## write the chip's Verilog (PRESET=single DTYPE=bf16 OUT=build)
	$(BIN)/python -m loopnest_hw.export --preset $(PRESET) --dtype $(DTYPE) --output $(OUT)

diagrams: $(READY) ## draw docs/diagrams/ from the hardware
	$(BIN)/python -m loopnest_hw.diagrams

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

timing: $(READY) ## area and clock of the PE (LIBERTY=cells.lib PRESET= DTYPE=); wants OpenSTA
	$(BIN)/python -m loopnest_hw.timing --preset $(PRESET) --dtype $(DTYPE) \
	    $(if $(LIBERTY),--liberty $(LIBERTY))

waves: $(READY) ## record a small product's signals (WAVES=build/waves FIRST=0 LAST=1000 PRESET= DTYPE=)
	$(BIN)/python -m loopnest.examples.waves --preset $(PRESET) --dtype $(DTYPE) \
	    --waves $(or $(WAVES),$(OUT)/waves) --first $(FIRST) --last $(LAST)

clean: ## remove what was built, the virtual environment too
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
	    "Python %d.%d: expected 3.11 or later (make PYTHON=...)" % v[:2])'
	$(PYTHON) -m venv $(VENV) || { echo "no venv: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@
