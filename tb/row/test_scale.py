"""The scaled sum against its formula."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.config import COORDINATE_BITS, POSITION_BITS
from loopnest_hw.row.scale import ScaledSum
from tb.harness import SIMULATORS, bench, run_bench

EDGES = (0, 1, (1 << COORDINATE_BITS) - 1)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_scaled_sum(simulator: str) -> None:
    run_bench(ScaledSum(), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(step=[0, 1, 250, (1 << POSITION_BITS) - 1, 0x89AB_CDEF], advance=[1.0, 0.5])
async def equals_the_formula(dut: Any, step: int, advance: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    dut.step.value = step
    pipeline: list[int | None] = [None] * ScaledSum.latency
    checked = 0
    for _ in range(300):
        base = rng.choice([0, (1 << POSITION_BITS) - 1, rng.getrandbits(POSITION_BITS)])
        number = rng.choice([*EDGES, rng.getrandbits(COORDINATE_BITS)])
        moves = rng.random() < advance
        dut.base.value, dut.number.value, dut.advance.value = base, number, moves
        await RisingEdge(dut.clk)
        # what is read here is from before the edge
        if pipeline[-1] is not None:
            assert int(dut.o.value) == pipeline[-1]
            checked += 1
        if moves:
            pipeline = [(base + number * step) % (1 << POSITION_BITS), *pipeline[:-1]]
    assert checked > 280
