"""Bench of the filler."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw import tokens
from loopnest_hw.config import LANES
from loopnest_hw.result.filler import Filler
from loopnest_sim.model.fill import fill
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.result.items import defined, noisy, paired, random_blocks, silenced, to_items
from tb.streams import Sink, Source

SIZES = (0, 1, 15, 16, 17, 31, 32, 100, 128)
LARGE = 8
"""Number of further random sizes."""
FIBERS = 40
ITEMS = 2000
"""Maximum blocks of a run."""


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    p = bench.parameters
    rng = bench.rng()
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    await bench.start(dut)
    for size in (*SIZES, *(rng.randrange(1 << 15) for _ in range(LARGE))):
        for full in (1, 0):
            untouched = rng.choice((0, rng.getrandbits(32)))
            dut.full.value, dut.size.value, dut.fill.value = full, size, untouched
            await ClockCycles(dut.clk, 2)
            count = max(1, min(FIBERS, bench.count(ITEMS) * LANES // max(size, 1)))
            fibers = [rng.getrandbits(32) for _ in range(count)]
            blocks = random_blocks(rng, fibers, size=size, most=9)
            items = to_items(blocks) if full else paired(to_items(blocks), rng)
            expected = defined(to_items(fill(blocks, size, untouched))) if full else items
            if rng.random() < 0.5:
                items, expected = silenced(items), silenced(expected)
            before = len(sink.received)
            await source.send_all(noisy(items, rng))
            await sink.wait_for(before + len(expected))
            await ClockCycles(dut.clk, 10)
            assert defined(sink.received[before:]) == expected
            if not p["stall"]:
                assert sink.cycles[-1] - sink.cycles[before] == len(expected) - 1


@cocotb.test()
async def the_largest_fiber(dut: Any) -> None:
    """2^20 coordinates: all of the counter's bits."""
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng())
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng())
    await bench.start(dut)
    dut.full.value, dut.size.value = 1, 1 << 20
    await ClockCycles(dut.clk, 2)
    item = {"mask": 1, "value": [7] + [0] * 15, "fiber": 1}
    await source.send({**item, "coordinate": 2, "last": 0, "final": 0})
    cocotb.start_soon(source.send({**item, "coordinate": (1 << 16) - 1, "last": 1, "final": 1}))
    received = await sink.wait_for(1 << 16)
    assert [b["coordinate"] for b in received] == list(range(1 << 16))
    assert [n for n, b in enumerate(received) if b["value"][0]] == [2, (1 << 16) - 1]
    assert all(b["mask"] == 0xFFFF for b in received)
    assert [n for n, b in enumerate(received) if b["last"]] == [(1 << 16) - 1]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_filler(simulator: str, stall: float) -> None:
    run_bench(
        Filler(),
        module=__name__,
        simulator=simulator,
        parameters={"stall": stall},
        testcase="equals_the_model",
    )


def test_largest_fiber() -> None:
    run_bench(
        Filler(),
        module=__name__,
        simulator="verilator",
        testcase="the_largest_fiber",
    )


def test_stream_law() -> None:
    prove_stream_law(Filler(), outputs=["o"], inputs_assumed=["i"])
