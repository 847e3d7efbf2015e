"""fp32 addition against the golden model."""

from typing import Any

import cocotb
import numpy as np
import pytest

from loopnest_hw.arith.fadd import FpAdd
from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Reduction
from loopnest_sim.model.arith import reduce_pair, widen
from tb.arith.operands import float_pairs
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench


def reference(pairs: list[tuple[int, int]], reduction: Reduction) -> list[int]:
    """Return the bits of the sums, minima or maxima."""
    a, b = (widen(x, NumberFormat.BF16, True) for x in np.array(pairs, np.uint32).T)
    return reduce_pair(a, b, reduction, NumberFormat.BF16)[0].view(np.uint32).tolist()


@cocotb.test()
async def sums(dut: Any) -> None:
    """Special and random pairs, each with one of the three operations."""
    rng = bench.rng()
    pairs = float_pairs(rng, 4000)
    kinds = [rng.choice(list(Reduction)) for _ in pairs]
    items = [
        {
            "a": a,
            "b": b,
            "extreme": int(kind is not Reduction.SUM),
            "minimum": int(kind is Reduction.MIN),
        }
        for (a, b), kind in zip(pairs, kinds, strict=True)
    ]
    stall = bench.parameters["stall"]
    await bench.start(dut)
    latency = FpAdd.latency
    results = await run_pipe(dut, items, {"o": latency}, stages=latency, stall=stall, rng=rng)
    assert len(results) == len(pairs) > 5000
    references = {kind: reference(pairs, kind) for kind in Reduction}
    for n, (pair, kind, result) in enumerate(zip(pairs, kinds, results, strict=True)):
        expected = references[kind][n]
        assert result["o"] == expected, (
            f"{kind.name} {pair[0]:08x} {pair[1]:08x}: {expected:08x} expected"
        )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("stall", [0, 0.3])
def test_fadd(simulator: str, stall: float) -> None:
    """With and without stalls."""
    run_bench(FpAdd(), module=__name__, simulator=simulator, parameters={"stall": stall})
