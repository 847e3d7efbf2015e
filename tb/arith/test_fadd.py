"""fp32 addition against the golden model."""

from typing import Any

import cocotb
import numpy as np
import pytest

from loopnest_hw.arith.fadd import FpAdd
from loopnest_hw.config import NumberFormat
from loopnest_sim.model.arith import add, widen
from tb.arith.operands import float_pairs
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench


def reference(pairs: list[tuple[int, int]]) -> list[int]:
    """Return the bits of the sums."""
    a, b = (widen(x, NumberFormat.BF16, True) for x in np.array(pairs, np.uint32).T)
    return add(a, b, NumberFormat.BF16)[0].view(np.uint32).tolist()


@cocotb.test()
async def sums(dut: Any) -> None:
    """Special and random pairs."""
    rng = bench.rng()
    pairs = float_pairs(rng, 4000)
    items = [{"a": a, "b": b} for a, b in pairs]
    stall = bench.parameters["stall"]
    results = await run_pipe(dut, items, ["o"], latency=FpAdd.latency, stall=stall, rng=rng)
    assert len(results) == len(pairs) > 5000
    for pair, result, expected in zip(pairs, results, reference(pairs), strict=True):
        assert result["o"] == expected, f"{pair[0]:08x} + {pair[1]:08x}: {expected:08x} expected"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("stall", [0, 0.3])
def test_fadd(simulator: str, stall: float) -> None:
    """With and without pauses."""
    run_bench(FpAdd(), module=__name__, simulator=simulator, parameters={"stall": stall})
