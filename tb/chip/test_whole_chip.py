"""The chip with its PE, in front of a memory that delays, reorders, stalls and fails.

The runtime lowers a kernel; the bench runs it and compares all of memory with the golden model's.
"""

from collections import Counter
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

import tb.harness
from loopnest.kernel.lower import Kernel
from loopnest_hw.chip.chip import Chip
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.descriptor import pack
from loopnest_hw.registers import OFFSETS, ErrorCode, snapshot_lines
from loopnest_sim.image import Image
from loopnest_sim.model.kernel import run_kernel
from loopnest_sim.model.run import run_kernels
from tb.chip.axi_lite import AxiLiteManager
from tb.chip.axi_memory import AxiMemory
from tb.harness import COVERAGE, bench, run_bench
from tb.kernels import NAMES, fields_of, loaded, lowered
from tests.fuzz.corrupted import BUDGET, Case, Segments, make_case
from tests.fuzz.corruption import SHOWN, SLACK
from tests.rtl.chips import Pair
from tests.sim.vector_copy import TABLE, dependent_copies, write_vector

PRESET = "shrunk"
CONFIG = make_config(PRESET, "int8", multipliers=2)
START, INTERRUPT = 1, 4
DONE = 2
PATIENCE = 20_000

TIMINGS = (((1, 1), 0.0), ((60, 110), 0.0), ((1, 40), 0.4))
"""Minimum and maximum latency of the memory, and its stall probability."""

START_OF_LIST, COUNTERS, EXTENT = 0x1000, 0xB000, 0xC000
"""Addresses of a list and of its counters, and the end of its memory."""

GAP = 30
"""Maximum cycles between the kernels of a list, without the memory's latency."""

FUZZ = 600
"""Seeds of the fuzzer."""

FAILING = 0.3
"""Share of the kernels that are run again with a bus error."""


class System:
    """The chip, its memory and its host."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.memory = AxiMemory(dut, "m_axi_", bench.rng())
        self.host = AxiLiteManager(dut, "s_axil_", bench.rng(), stall=0.3)

    async def run(self, kernel: Kernel) -> ErrorCode:
        """Load a kernel and run it to its interrupt."""
        self.memory.lines = lines(loaded(kernel))
        code, _ = await self.run_at(kernel.descriptor)
        return code

    async def run_at(self, address: int, patience: int = PATIENCE) -> tuple[ErrorCode, int]:
        """Run the kernels at an address to the interrupt; return the error code and its
        ``where``.
        """
        self.memory.reads.clear()
        self.memory.writes.clear()
        await self.host.write(OFFSETS["kernels"], address)
        await self.host.write(OFFSETS["control"], START | INTERRUPT)
        for _ in range(patience):
            await RisingEdge(self.dut.clk)
            if int(self.dut.irq.value):
                break
        else:
            raise AssertionError("no interrupt")
        assert self.memory.quiet
        code, _ = await self.host.read(OFFSETS["error"])
        where, _ = await self.host.read(OFFSETS["error_where"])
        await self.host.write(OFFSETS["status"], DONE)
        return ErrorCode(code), where

    async def check_end(self, case: Case) -> ErrorCode:
        """Run a fuzzer's case and compare with the golden model; return its error."""
        image = Image()
        for address, array in case.segments:
            image.write(address, array)
        self.memory.lines = segment_lines(case.segments)
        expected = run_kernels(CONFIG, image, case.start)
        patience = (expected.completed + 1) * (BUDGET + SLACK)
        code, where = await self.run_at(case.start, patience)
        for line in self.memory.writes:
            at = line * LINE_BYTES
            assert any(begin <= at + LINE_BYTES and at < end for begin, end in expected.regions)
        if code is ErrorCode.BUDGET:
            assert where <= expected.completed
        elif code is ErrorCode.READ_ERROR:
            assert self.memory.read_errors
        elif code:
            assert (code, where) in expected.errors, f"{code.name} at {where}, not {expected}"
        else:
            assert not expected.errors, f"no error, not {expected.errors}"
            for begin, end in expected.regions:
                size = min(end - begin, SHOWN) + LINE_BYTES
                first = begin // LINE_BYTES
                golden = image.read(first * LINE_BYTES, size // LINE_BYTES * LINE_BYTES)
                for line, data in enumerate(golden.reshape(-1, LINE_BYTES), first):
                    at = line * LINE_BYTES
                    if any(begin <= at < end for begin, end in expected.counters):
                        continue
                    wanted = int.from_bytes(data.tobytes(), "little")
                    assert self.memory.line(line) == wanted, f"line {line:#x}"
        return code

    async def check(self, kernel: Kernel) -> None:
        """Run a kernel, and compare memory with the golden model's."""
        expected = loaded(kernel)
        run_kernel(CONFIG, expected, fields_of(CONFIG, kernel))
        assert await self.run(kernel) is ErrorCode.NONE
        found, wanted = self.memory.lines, lines(expected)
        for line in found.keys() | wanted.keys():
            assert found.get(line) == wanted.get(line), f"line {line:#x}"


def lines(image: Image) -> dict[int, int]:
    """Return an image in the form of an `AxiMemory`."""
    count = -(-image.extent // LINE_BYTES)
    raw = image.read(0, count * LINE_BYTES).tobytes()
    return {
        n: int.from_bytes(raw[n * LINE_BYTES : (n + 1) * LINE_BYTES], "little")
        for n in range(count)
    }


def segment_lines(segments: Segments) -> dict[int, int]:
    """Return pieces of memory in the form of an `AxiMemory`."""
    image: dict[int, int] = {}
    for address, array in segments:
        for n, byte in enumerate(array.tobytes(), address):
            place = 8 * (n % LINE_BYTES)
            line = image.get(n // LINE_BYTES, 0)
            image[n // LINE_BYTES] = line & ~(0xFF << place) | byte << place
    return image


@cocotb.test()
async def fuzz(dut: Any) -> None:
    """Kernels of the fuzzer, including random nests, most of them corrupted."""
    pair = Pair(f"{PRESET}/{CONFIG.dtype.value}/multipliers={CONFIG.multipliers}")
    system = System(dut)
    # memory that was never written is zero in the golden model
    system.memory.blank = lambda line: 0  # type: ignore[method-assign]
    await bench.start(dut)
    rng = bench.rng()
    ends: Counter[ErrorCode] = Counter()
    for seed in range(FUZZ):
        case = make_case(seed, pair)
        system.memory.read_errors.clear()
        if case.read_error:
            system.memory.read_errors.add(rng.choice(sorted(segment_lines(case.segments))))
        if not (case.write_error or case.silence):
            system.memory.latency, system.memory.stall = TIMINGS[seed % len(TIMINGS)]
            ends[await system.check_end(case)] += 1
    dut._log.info("%s", ends)
    assert ends[ErrorCode.NONE] > FUZZ / 4
    assert len(ends) > 6


@cocotb.test()
async def kernels(dut: Any) -> None:
    """Kernels of all kinds, and some with a bus error; the next one is correct."""
    system = System(dut)
    await bench.start(dut)
    rng = bench.rng()
    written = 0
    for number, name in enumerate(NAMES):
        system.memory.latency, system.memory.stall = TIMINGS[number % len(TIMINGS)]
        kernel = lowered(PRESET, CONFIG, name, number)
        await system.check(kernel)
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


@cocotb.test()
async def programs(dut: Any) -> None:
    """A list whose second kernel needs the first one's result, twice on memory full of garbage; the
    cycles from the last write of the first to the first read of the second.
    """
    system = System(dut)
    memory = system.memory
    await bench.start(dut)
    for background, (latency, stall) in enumerate((*TIMINGS, ((100, 100), 0.0)), 0x01020304):
        memory.latency, memory.stall = latency, stall
        memory.lines.clear()
        image = Image()
        for line in range(EXTENT // LINE_BYTES):
            image.write(line * LINE_BYTES, memory.blank(line).to_bytes(LINE_BYTES, "little"))
        write_vector(image)
        kernels = dependent_copies(CONFIG, background, counters=COUNTERS)
        image.write(START_OF_LIST, np.concatenate([pack(CONFIG, d) for d in kernels]))
        memory.lines = lines(image)
        memory.read_cycles.clear()
        memory.write_cycles.clear()
        assert not run_kernels(CONFIG, image, START_OF_LIST).errors
        assert await system.run_at(START_OF_LIST) == (ErrorCode.NONE, 0)
        wanted = lines(image)
        found = memory.lines
        snapshot = snapshot_lines(CONFIG.pes)
        counted = [COUNTERS // LINE_BYTES + n for n in range(snapshot)]
        counted += [line + 0x100 // LINE_BYTES for line in counted]
        assert all(found[line] == wanted[line] for line in wanted.keys() - set(counted))
        multiplies = [found[counted[n * snapshot]] >> 64 & (1 << 64) - 1 for n in range(2)]
        assert multiplies == [3, 6]
        last_write = max(
            cycle
            for cycle, line in zip(memory.write_cycles, memory.writes, strict=True)
            if line * LINE_BYTES < kernels[0]["result.values_end"]
        )
        first_read = min(
            cycle
            for cycle, line in zip(memory.read_cycles, memory.reads, strict=True)
            if cycle > last_write and line * LINE_BYTES >= TABLE
        )
        dut._log.info("latency %s: a gap of %d cycles", latency, first_read - last_write)
        if not stall:
            assert latency[0] < first_read - last_write <= latency[1] + GAP


def test_whole_chip() -> None:
    """For coverage and mutation; `test_verilog` runs the same kernels in Icarus."""
    if not COVERAGE and tb.harness.recorder is None:
        pytest.skip("in Verilator, tests/rtl runs whole chips")
    for testcase in ("kernels", "programs"):
        run_bench(Chip(CONFIG), module=__name__, simulator="verilator", testcase=testcase)


def test_whole_chip_fuzz() -> None:
    """For coverage and mutation, which do not run the fuzzer's own tests."""
    if not COVERAGE and tb.harness.recorder is None:
        pytest.skip("tests/fuzz does it, and faster")
    run_bench(
        Chip(CONFIG),
        module=__name__,
        simulator="verilator",
        testcase="fuzz",
    )
