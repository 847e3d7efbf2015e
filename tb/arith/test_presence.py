"""`Adder` and `Multiplier`: either format, and operands that are absent."""

from typing import Any

import cocotb
import numpy as np
import pytest

from loopnest_hw.arith.adder import Adder
from loopnest_hw.arith.multiplier import Multiplier
from loopnest_hw.config import NumberFormat, make_config
from loopnest_hw.descriptor import Reduction
from loopnest_sim.model.arith import Wide, multiply, reduce_pair, widen
from tb.arith.operands import float_pairs, integer_pairs
from tb.arith.pipe import run_pipe
from tb.harness import SIMULATORS, bench, run_bench

UNITS = {unit.__name__: unit for unit in (Adder, Multiplier)}


def narrowed(x: Wide, fmt: NumberFormat) -> Wide:
    """Return the part of the narrow factor that a multiplier uses."""
    if fmt is NumberFormat.INT8:
        return x << 23 >> 23
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@cocotb.test()
async def present_or_not(dut: Any) -> None:
    """All four patterns of presence."""
    rng = bench.rng()
    fmt = NumberFormat(bench.parameters["dtype"])
    unit = bench.parameters["unit"]
    make = float_pairs if fmt is NumberFormat.BF16 else integer_pairs
    # canonical, like outputs of `Widen`
    a, b = (widen(x, fmt, True) for x in np.array(make(rng, 1500), np.uint32).T)
    reduction = Reduction(bench.parameters["reduction"])
    if unit == "Adder":
        both, overflow = reduce_pair(a, b, reduction, fmt)
    else:
        both, overflow = multiply(a, narrowed(b, fmt), fmt)
    bits = [x.view(np.uint32).tolist() for x in (a, b, both)]
    items = [
        {"a": x, "b": y, "a_present": rng.getrandbits(1), "b_present": rng.getrandbits(1)}
        for x, y in zip(bits[0], bits[1], strict=True)
    ]
    if unit == "Adder":
        items = [{**item, "reduction": int(reduction)} for item in items]
    latencies = dict.fromkeys(("o", "o_present", "overflow"), bench.parameters["latency"])
    await bench.start(dut)
    results = await run_pipe(dut, items, latencies, stall=0.2, rng=rng)
    assert len(results) == len(items) > 1500
    for n, (item, result) in enumerate(zip(items, results, strict=True)):
        assert result["o_present"] == (item["a_present"] | item["b_present"])
        if item["a_present"] & item["b_present"]:
            assert result["o"] == bits[2][n], f"{item}: {result}"
            assert result["overflow"] == int(overflow[n]), f"{item}: {result}"
        else:
            assert result["overflow"] == 0, f"{item}: {result}"
        if item["a_present"] != item["b_present"]:
            assert result["o"] == item["a" if item["a_present"] else "b"], f"{item}: {result}"


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("unit", "reduction"),
    [*(("Adder", reduction) for reduction in Reduction), ("Multiplier", Reduction.SUM)],
)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_presence(simulator: str, unit: str, reduction: Reduction, dtype: str) -> None:
    """Both units in both formats."""
    component = UNITS[unit](make_config(dtype=dtype))
    parameters = {
        "unit": unit,
        "reduction": int(reduction),
        "dtype": dtype,
        "latency": component.latency,
    }
    run_bench(component, module=__name__, simulator=simulator, parameters=parameters)
