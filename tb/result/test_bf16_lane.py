"""Bench of the epilogue's arithmetic on a bf16 chip."""

import random
from typing import Any

import cocotb
import pytest

from loopnest_hw.config import NumberFormat, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.result.bf16_lane import Bf16Lane
from tb.arith.operands import float_pairs, random_float
from tb.harness import SIMULATORS, run_bench
from tb.result.finishing import Kernel, Triple, check_unit

ONE = 0x3F800000
INFINITY = 0x7F800000
SIGN = 1 << 31


def make_kernel(rng: random.Random) -> Kernel:
    """Return settings; in half of them nothing is clamped."""
    free = rng.random() < 0.5
    return {
        "epilogue.low": SIGN | INFINITY if free else random_float(rng),
        "epilogue.high": INFINITY if free else random_float(rng),
        "epilogue.threshold": 0 if free else random_float(rng) & rng.choice((SIGN - 1, -1)),
    }


def make_value(rng: random.Random, kernel: Kernel) -> Triple:
    """Return a value, a bias and a scale: random ones, ones whose sum or product is a special case,
    or ones that give a result near a bound or halfway between two narrow values.
    """
    kind = rng.randrange(4)
    if kind == 0:
        value, bias = float_pairs(rng, 1)[-1]
        return value, bias, random_float(rng)
    if kind == 1:
        value, scale = float_pairs(rng, 1)[-1]
        return value, 0, scale
    near = kernel[f"epilogue.{rng.choice(('low', 'high', 'threshold'))}"]
    if kind == 2:
        # a few units in the last place away, or with another bit
        value = near + rng.randint(-3, 3) if rng.random() < 0.5 else near ^ 1 << rng.randrange(32)
    else:
        value = random_float(rng) & -1 << 15 | rng.choice((0, 1 << 15, 1 << 15 | 1, (1 << 15) - 1))
    return value % (1 << 32), 0, ONE | rng.choice((0, SIGN))


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    latencies = {"o": Bf16Lane.latency, "overflow": Bf16Lane.sum_latency}
    await check_unit(dut, NumberFormat.BF16, latencies, make_kernel, make_value)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_bf16_lane(simulator: str) -> None:
    settings = kernel_layout(make_config("single", "bf16")).members["epilogue"]
    run_bench(Bf16Lane(settings), module=__name__, simulator=simulator)
