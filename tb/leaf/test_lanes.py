"""The lanes against the golden model."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import ChipConfig, NumberFormat, make_config
from loopnest_hw.descriptor import Op
from loopnest_hw.leaf.lanes import Lanes, lanes_input, lanes_output
from loopnest_sim.model.lanes import lanes
from tb.arith.operands import SPECIAL_FLOATS, SPECIAL_INTEGERS, random_float
from tb.harness import bench, run_bench, runs
from tb.streams import Sink, Source

SIDE = 12

STALLS = [(0.0, 0.0), (0.3, 0.0), (0.0, 0.5), (0.4, 0.4)]

STEPS = 25


def random_value(rng: random.Random, fmt: NumberFormat) -> int:
    """Return a raw value; the bits above a narrow one are random."""
    if fmt is NumberFormat.INT8:
        if rng.random() < 0.3:
            return rng.choice(SPECIAL_INTEGERS)
        return (rng.getrandbits(24) - (1 << 23)) & 0xFFFFFFFF
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(SPECIAL_FLOATS) >> rng.choice([0, 16])
    if kind < 0.5:
        return random_float(rng)
    # magnitudes about 1, whether narrow or wide
    narrow = rng.getrandbits(1) << 15 | 0x3E80 + rng.getrandbits(9)
    return (rng.getrandbits(1) << 31 | narrow << 16 & 0x7FFF0000) | narrow


def random_step(config: ChipConfig, rng: random.Random) -> dict[str, Any]:
    """Return a step of any lanes and operands."""
    m, operands = config.multipliers, config.operands
    return {
        "valid": rng.getrandbits(m),
        "present": [rng.choice([(1 << operands) - 1, rng.getrandbits(operands)]) for _ in range(m)],
        "value": [[random_value(rng, config.dtype) for _ in range(operands)] for _ in range(m)],
        "side": rng.getrandbits(SIDE),
    }


def bits(numbers: list[int], count: int) -> np.ndarray:
    """Return the low bits of each number, shape ``(len(numbers), count)``."""
    return (np.array(numbers)[..., None] >> np.arange(count) & 1).astype(np.bool_)


def reference(
    config: ChipConfig, steps: list[dict[str, Any]], setting: dict[str, int]
) -> tuple[list[dict[str, Any]], bool]:
    """Return what `Lanes` makes of the steps, and the overflow."""
    operands = config.operands
    x, overflow = lanes(
        np.array([step["value"] for step in steps], np.uint32),
        bits([step["present"] for step in steps], operands),
        bits([step["valid"] for step in steps], config.multipliers),
        op1=Op(setting["op1"]),
        op2=Op(setting["op2"]),
        wide=bits([setting["wide"]], operands)[0].tolist(),
        negated=bits([setting["negate"]], operands)[0].tolist(),
        fmt=config.dtype,
    )
    items = [
        {"valid": step["valid"], "value": value, "side": step["side"]}
        for step, value in zip(steps, x.view(np.uint32).tolist(), strict=True)
    ]
    return items, overflow


@cocotb.test()
async def settings(dut: Any) -> None:
    """All pairs of operators with random widths and signs, at several rates."""
    rng = bench.rng()
    config = make_config(**bench.parameters["config"])
    source = Source(dut, "i", lanes_input(config, SIDE), rng)
    sink = Sink(dut, "o", lanes_output(config, SIDE), rng)
    await bench.start(dut)
    done = wraps = 0
    for op1 in Op:
        for op2 in Op:
            for source.stall, sink.stall in STALLS:
                dut.rst.value = 1
                setting = {
                    "op1": int(op1),
                    "op2": int(op2),
                    "wide": rng.getrandbits(config.operands),
                    "negate": rng.getrandbits(config.operands),
                }
                for name, value in setting.items():
                    getattr(dut, name).value = value
                await ClockCycles(dut.clk, 2)
                dut.rst.value = 0
                await ClockCycles(dut.clk, 1)
                steps = [random_step(config, rng) for _ in range(STEPS)]
                await source.send_all(steps)
                received = (await sink.wait_for(done + STEPS, idle=200))[done:]
                expected, overflow = reference(config, steps, setting)
                for step, item, right in zip(steps, received, expected, strict=True):
                    assert item == right, f"{setting}: {step}"
                if not source.stall and not sink.stall:
                    assert sink.cycles[-1] - sink.cycles[done] == STEPS - 1
                await ClockCycles(dut.clk, 2)
                assert int(dut.overflow.value) == int(overflow), f"{setting}: overflow"
                done += STEPS
                wraps += overflow
    assert len(sink.received) == done == len(Op) ** 2 * len(STALLS) * STEPS
    assert (wraps > 0) == (config.dtype is NumberFormat.INT8)


CASES = [(dtype, *size) for dtype in ("bf16", "int8") for size in ((1, 2), (1, 3), (4, 3))]


@pytest.mark.parametrize(
    ("simulator", "dtype", "multipliers", "operands"),
    runs(CASES, icarus=[("bf16", 1, 3), ("int8", 1, 2)]),
)
def test_lanes(simulator: str, dtype: str, multipliers: int, operands: int) -> None:
    """Both formats, the smallest and the usual size."""
    config = {"dtype": dtype, "multipliers": multipliers, "operands": operands}
    component = Lanes(make_config(**config), SIDE)
    run_bench(component, module=__name__, simulator=simulator, parameters={"config": config})
