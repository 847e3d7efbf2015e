"""fp32 multiplication against the golden model."""

from typing import Any

import cocotb
import numpy as np
import pytest

from loopnest_hw.arith.fmul import FpMul
from loopnest_hw.config import NumberFormat
from loopnest_sim.model.arith import multiply, widen
from tb.arith.operands import float_pairs
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench


def reference(pairs: list[tuple[int, int]], significant: int) -> list[int]:
    """Return the bits of the products."""
    a, b = (widen(x, NumberFormat.BF16, True) for x in np.array(pairs, np.uint32).T)
    cut = np.uint32(0xFFFFFFFF << 24 - significant & 0xFFFFFFFF)
    b = (b.view(np.uint32) & cut).view(np.float32)
    return multiply(a, b, NumberFormat.BF16)[0].view(np.uint32).tolist()


@cocotb.test()
async def products(dut: Any) -> None:
    """Special and random pairs; the bits of b below its significant ones are random."""
    rng = bench.rng()
    significant = bench.parameters["significant"]
    pairs = [
        # a NaN with only low bits set is not one if these are ignored: the chip never generates it
        (a, b | 0x400000 if b & 0x7F800000 == 0x7F800000 and b & 0x7FFFFF else b)
        for a, b in float_pairs(rng, 4000)
    ]
    items = [{"a": a, "b": b} for a, b in pairs]
    stall = bench.parameters["stall"]
    await bench.start(dut)
    latency = FpMul.latency
    results = await run_pipe(dut, items, {"o": latency}, stages=latency, stall=stall, rng=rng)
    assert len(results) == len(pairs) > 5000
    expected = reference(pairs, significant)
    for pair, result, product in zip(pairs, results, expected, strict=True):
        assert result["o"] == product, f"{pair[0]:08x} * {pair[1]:08x}: {product:08x} expected"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("significant", "stall"), [(8, 0), (8, 0.3), (24, 0.3)])
def test_fmul(simulator: str, significant: int, stall: float) -> None:
    """bf16 and fp32 factors, with and without stalls."""
    parameters = {"significant": significant, "stall": stall}
    run_bench(FpMul(significant), module=__name__, simulator=simulator, parameters=parameters)


def test_significant() -> None:
    """An impossible number of bits is refused."""
    with pytest.raises(ValueError, match="significant=25: expected 2 to 24"):
        FpMul(25)
