"""Bench of the epilogue's arithmetic on an int8 chip."""

import random
from typing import Any

import cocotb
import pytest

from loopnest_hw.config import NumberFormat, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.result.int8_lane import Int8Lane
from tb.harness import SIMULATORS, run_bench
from tb.result.finishing import Kernel, Triple, check_unit

WORD = 1 << 32
EDGES = (0, 1, -1, 127, 128, -128, -129, (1 << 31) - 1, -(1 << 31))


def integer(rng: random.Random) -> int:
    """Return a signed number of any length, or a limit."""
    if rng.random() < 0.2:
        return rng.choice(EDGES)
    bits = rng.randrange(1, 33)
    return rng.getrandbits(bits) - (1 << bits - 1)


def make_kernel(rng: random.Random) -> Kernel:
    """Return settings; in half of them nothing is clamped."""
    free = rng.random() < 0.5
    lowest, highest = -(1 << 31), (1 << 31) - 1
    return {
        "epilogue.shift": rng.choice((0, 1, 2, rng.randrange(64))),
        "epilogue.low": (lowest if free else integer(rng)) % WORD,
        "epilogue.high": (highest if free else integer(rng)) % WORD,
        "epilogue.threshold": (0 if free else integer(rng)) % WORD,
    }


def make_value(rng: random.Random, kernel: Kernel) -> Triple:
    """Return a value, a bias and a scale: random ones, or ones whose result is near a bound or a
    limit, or halfway between two numbers.
    """
    shift = kernel["epilogue.shift"]
    scale, bias = integer(rng), integer(rng)
    if rng.random() < 0.3:
        return integer(rng) % WORD, bias % WORD, scale % WORD
    if rng.random() < 0.6:
        # a power of two that cancels the shift, as far as possible
        scale = rng.choice((1, -1)) << min(shift, 30)
    bounds = [kernel[f"epilogue.{name}"] for name in ("low", "high", "threshold")]
    near = rng.choice([*EDGES, *bounds, -bounds[2], rng.randrange(-300, 300)])
    near = (near + (1 << 31)) % WORD - (1 << 31)
    half = rng.choice((0, 1 << shift >> 1))
    total = ((near << shift) + half) // (scale or 1) + rng.choice((0, 0, 1, -1, 2, -2))
    return (total - bias) % WORD, bias % WORD, scale % WORD


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    latencies = {"o": Int8Lane.latency, "overflow": Int8Lane.sum_latency}
    await check_unit(dut, NumberFormat.INT8, latencies, make_kernel, make_value)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_int8_lane(simulator: str) -> None:
    settings = kernel_layout(make_config("single", "int8")).members["epilogue"]
    run_bench(Int8Lane(settings), module=__name__, simulator=simulator)
