"""Bench of `LineReader`."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import LINE_BITS, LINE_BYTES, make_config
from loopnest_hw.stream.line_reader import LineReader
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.ring import IMAGE_LINES, RingMemory, run_lines
from tb.streams import Sink, Source

CONFIG = make_config("single")


async def run_reader(dut: Any, numbers: list[int], ring: tuple[int, int], **options: Any) -> Sink:
    """Request these lines, each of which is read; return the sink."""
    sink, read = await run_lines(dut, CONFIG, numbers, ring, **options)
    assert read == numbers
    return sink


@cocotb.test()
@cocotb.parametrize(
    size=[1, 2, 3, 16, 128],
    timing=[(1, 0, 0.0), (4, 20, 0.0), (100, 60, 0.0), (1, 9, 0.4), (4, 0, 0.4)],
)
async def lines(dut: Any, size: int, timing: tuple[int, int, float]) -> None:
    """Any lines, in rings of all sizes, at every timing."""
    rng = bench.rng()
    latency, spread, stall = timing
    numbers = [rng.randrange(IMAGE_LINES) for _ in range(20 if size < 4 else 200)]
    base = rng.randrange(CONFIG.pool_lines - size + 1)
    await run_reader(
        dut, numbers, (base, base + size - 1), latency=latency, spread=spread, stall=stall
    )


@cocotb.test()
async def a_line_a_cycle(dut: Any) -> None:
    """One line per cycle if the ring covers the latency; the first one a cycle after its
    arrival.
    """
    sink = await run_reader(dut, [*range(200)], (3, 18), latency=8)
    assert sink.cycles[-1] - sink.cycles[0] == 199


@cocotb.test()
async def a_full_ring(dut: Any) -> None:
    """While no lines are taken, requests stop when the ring is full, and `waiting` is set."""
    rng = bench.rng()
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    source = Source(dut, "i", LINE_BITS, rng)
    memory = RingMemory(dut, CONFIG, image, rng, ring=(5, 9), latency=4)
    await bench.start(dut)
    dut.ring.value = 5 | 9 << CONFIG.pool_bits
    await ClockCycles(dut.clk, 2)
    assert not int(dut.pool__waiting.value)
    cocotb.start_soon(source.send_all(range(100)))
    dut.wants.value = 1
    await ClockCycles(dut.clk, 50)
    # one more is out of the pool
    assert len(memory.lines) == 6 and int(dut.pool__waiting.value)
    dut.wants.value = 0
    await ClockCycles(dut.clk, 2)
    assert not int(dut.pool__waiting.value)
    dut.o__ready.value = 1
    await ClockCycles(dut.clk, 400)
    assert len(memory.lines) == 100


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_line_reader(simulator: str) -> None:
    run_bench(LineReader(CONFIG), module=__name__, simulator=simulator)
