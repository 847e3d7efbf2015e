"""The chip with its PE, in front of a memory that delays, reorders, stalls and fails.

The runtime lowers a kernel; the bench runs it and compares all of memory with the golden model's.
"""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from loopnest import Chip as ModelChip
from loopnest.backends import Counters, ModelBackend
from loopnest.lower import Kernel
from loopnest_hw.chip.chip import Chip
from loopnest_hw.config import LINE_BYTES, ChipConfig, make_config
from loopnest_hw.descriptor import pack, unpack
from loopnest_hw.registers import OFFSETS, ErrorCode
from loopnest_sim.image import Image
from loopnest_sim.model.kernel import run_kernel
from tb.chip.axi_lite import AxiLiteManager
from tb.chip.axi_memory import AxiMemory
from tb.harness import COVERAGE, SIMULATORS, bench, run_bench
from tests.rtl.kernels import KINDS, check, random_operands

PRESET = "shrunk"
START, INTERRUPT = 1, 4
DONE = 2
PATIENCE = 20_000
SIZES = {"i": 5, "j": 40, "k": 9}

TIMINGS = (((1, 1), 0.0), ((60, 110), 0.0), ((1, 40), 0.4))
"""Least and greatest latency of the memory, and its share of stalls."""

NAMES = ["spmv", "spgemm by rows", "spgemm by inner products", "gemm", "add of three"]
"""Kinds of kernels with both shapes of the leaf, and operands of all formats."""

FAILING = 0.3
"""Share of the kernels that are run again with an error of the bus."""


class Recorder(ModelBackend):
    """The golden model, which keeps the kernel that it ran."""

    kernel: Kernel

    def run(self, kernel: Kernel) -> Counters:
        self.kernel = kernel
        return super().run(kernel)


def lowered(config: ChipConfig, name: str, seed: int) -> Kernel:
    """Return a kernel of this kind, whose result on the model NumPy confirms."""
    kind, dtype = KINDS[name], config.dtype.value
    chip = ModelChip(PRESET, dtype=dtype, backend="model", multipliers=config.multipliers)
    chip._backend = recorder = Recorder(config)
    operands = random_operands(kind, SIZES, np.random.default_rng(seed), dtype)
    check(kind, operands, dtype, chip.compute(kind.statement, **operands, **kind.arguments()))
    return recorder.kernel


class System:
    """The chip, its memory and its host."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.memory = AxiMemory(dut, "m_axi_", bench.rng())
        self.host = AxiLiteManager(dut, "s_axil_", bench.rng(), stall=0.3)

    async def run(self, kernel: Kernel) -> ErrorCode:
        """Load a kernel and run it to its interrupt."""
        image = loaded(kernel)
        self.memory.lines = lines(image)
        self.memory.reads.clear()
        self.memory.writes.clear()
        await self.host.write(OFFSETS["kernels"], kernel.descriptor)
        await self.host.write(OFFSETS["control"], START | INTERRUPT)
        for _ in range(PATIENCE):
            await RisingEdge(self.dut.clk)
            if int(self.dut.irq.value):
                break
        else:
            raise AssertionError("no interrupt")
        assert self.memory.quiet
        code, _ = await self.host.read(OFFSETS["error"])
        await self.host.write(OFFSETS["status"], DONE)
        return ErrorCode(code)

    async def check(self, config: ChipConfig, kernel: Kernel) -> None:
        """Run a kernel; memory is then what the golden model leaves."""
        expected = loaded(kernel)
        run_kernel(config, expected, unpack(config, pack(config, kernel.fields)))
        assert await self.run(kernel) is ErrorCode.NONE
        found, wanted = self.memory.lines, lines(expected)
        for line in found.keys() | wanted.keys():
            assert found.get(line) == wanted.get(line), f"line {line:#x}"


def loaded(kernel: Kernel) -> Image:
    """Return a memory with a kernel and its operands, and room for its result."""
    image = Image()
    for address, array in kernel.segments:
        image.write(address, array)
    # the result comes last
    end = kernel.fields["result.values_end"]
    image.write(max(end, image.extent), bytes(LINE_BYTES))
    return image


def lines(image: Image) -> dict[int, int]:
    """Return an image as an `AxiMemory` has it."""
    count = -(-image.extent // LINE_BYTES)
    raw = image.read(0, count * LINE_BYTES).tobytes()
    return {
        n: int.from_bytes(raw[n * LINE_BYTES : (n + 1) * LINE_BYTES], "little")
        for n in range(count)
    }


@cocotb.test()
async def kernels(dut: Any) -> None:
    """Kernels of all kinds, and some that the bus ends with an error; the next one runs right."""
    parameters = bench.parameters
    config = make_config(PRESET, parameters["dtype"], multipliers=parameters["multipliers"])
    system = System(dut)
    await bench.start(dut)
    rng = bench.rng()
    written = 0
    for number, name in enumerate(NAMES):
        system.memory.latency, system.memory.stall = TIMINGS[number % len(TIMINGS)]
        kernel = lowered(config, name, number)
        await system.check(config, kernel)
        written += len(system.memory.writes)
        for failing, accesses, code in (
            (system.memory.read_errors, system.memory.reads, ErrorCode.READ_ERROR),
            (system.memory.write_errors, system.memory.writes, ErrorCode.WRITE_ERROR),
        ):
            if accesses and rng.random() < FAILING:
                failing.add(rng.choice(accesses))
                assert await system.run(kernel) is code
                failing.clear()
    assert written > 10 * len(NAMES)


@pytest.mark.slow
@pytest.mark.skipif(
    "icarus" not in SIMULATORS and not COVERAGE, reason="in Verilator, tests/rtl runs whole chips"
)
@pytest.mark.parametrize(
    ("multipliers", "dtype"), [(2, "int8"), (1, "bf16"), (16, "int8")], ids=["2", "1", "16"]
)
def test_whole_chip(multipliers: int, dtype: str) -> None:
    """A usual leaf, and as narrow and as wide as it gets."""
    run_bench(
        Chip(make_config(PRESET, dtype, multipliers=multipliers)),
        module=__name__,
        simulator="verilator" if COVERAGE else "icarus",
        parameters={"dtype": dtype, "multipliers": multipliers},
    )
