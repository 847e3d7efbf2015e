"""The scaled sum against its formula."""

from typing import Any

import cocotb
import pytest

from loopnest_hw.config import COORDINATE_BITS, POSITION_BITS
from loopnest_hw.row.scale import ScaledSum
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench

EDGES = (0, 1, (1 << COORDINATE_BITS) - 1)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_scaled_sum(simulator: str) -> None:
    run_bench(ScaledSum(), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(step=[0, 1, 250, (1 << POSITION_BITS) - 1, 0x89AB_CDEF], stall=[0, 0.5])
async def equals_the_formula(dut: Any, step: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    dut.step.value = step
    items = [
        {
            "base": rng.choice([0, (1 << POSITION_BITS) - 1, rng.getrandbits(POSITION_BITS)]),
            "number": rng.choice([*EDGES, rng.getrandbits(COORDINATE_BITS)]),
        }
        for _ in range(300)
    ]
    latency = ScaledSum.latency
    results = await run_pipe(dut, items, {"o": latency}, stages=latency, stall=stall, rng=rng)
    for item, result in zip(items, results, strict=True):
        assert result["o"] == (item["base"] + item["number"] * step) % (1 << POSITION_BITS)
