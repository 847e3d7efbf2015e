"""int32 arithmetic against Python's integers."""

from typing import Any

import cocotb
import pytest

from loopnest_hw.arith.integer import NARROW_BITS, IntAdd, IntMul
from loopnest_hw.descriptor import Reduction
from tb.arith.operands import integer_pairs
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench

UNITS = {unit.__name__: unit for unit in (IntAdd, IntMul)}


def signed(number: int, bits: int) -> int:
    """Return the low bits as a signed number."""
    number &= (1 << bits) - 1
    return number - (number >> bits - 1 << bits)


def reference(unit: str, reduction: Reduction, a: int, b: int) -> dict[str, int]:
    """Return result and overflow."""
    if unit == "IntAdd" and reduction is not Reduction.SUM:
        pick = min if reduction is Reduction.MIN else max
        exact = pick(signed(a, 32), signed(b, 32))
    elif unit == "IntAdd":
        exact = signed(a, 32) + signed(b, 32)
    else:
        exact = signed(a, 32) * signed(b, NARROW_BITS)
    return {"o": exact & 0xFFFFFFFF, "overflow": int(signed(exact, 32) != exact)}


@cocotb.test()
async def results(dut: Any) -> None:
    """Special and random pairs."""
    rng = bench.rng()
    unit = bench.parameters["unit"]
    pairs = integer_pairs(rng, 3000)
    kinds = [rng.choice(list(Reduction)) for _ in pairs]
    items = [{"a": a, "b": b} for a, b in pairs]
    if unit == "IntAdd":
        for item, kind in zip(items, kinds, strict=True):
            item["extreme"] = int(kind is not Reduction.SUM)
            item["minimum"] = int(kind is Reduction.MIN)
    latency = UNITS[unit].latency
    latencies = dict.fromkeys(("o", "overflow"), latency)
    stall = bench.parameters["stall"]
    await bench.start(dut)
    found = await run_pipe(dut, items, latencies, stages=latency, stall=stall, rng=rng)
    assert len(found) == len(pairs) > 3000
    assert sum(result["overflow"] for result in found) > 20
    for (a, b), kind, result in zip(pairs, kinds, found, strict=True):
        assert result == reference(unit, kind, a, b), f"{unit}, {kind.name} of {a:08x}, {b:08x}"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("stall", [0, 0.3])
def test_integer(simulator: str, unit: str, stall: float) -> None:
    """With and without stalls."""
    parameters = {"unit": unit, "stall": stall}
    run_bench(UNITS[unit](), module=__name__, simulator=simulator, parameters=parameters)
