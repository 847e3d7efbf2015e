"""Bench of the combiner."""

import random
from itertools import product
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw import tokens
from loopnest_hw.config import LANES, ChipConfig, NumberFormat, make_config
from loopnest_hw.descriptor import Reduction
from loopnest_hw.result.combiner import Combiner
from loopnest_sim.model.blocks import Blocks
from loopnest_sim.model.combine import combine
from tb.harness import bench, run_bench, runs
from tb.result.items import defined, noisy, paired, random_lanes, to_blocks, to_items
from tb.streams import Sink, Source

FIBERS = 60


def configuration(parameters: dict[str, Any]) -> ChipConfig:
    return make_config(dtype=parameters["dtype"])


def random_value(rng: random.Random, fmt: NumberFormat, large: bool) -> int:
    """Return the bits of a wide value in the accumulator's form."""
    if fmt is NumberFormat.INT8:
        bits = 31 if large else 28
        return rng.randrange(-(1 << bits), 1 << bits) & 0xFFFFFFFF
    special = [0.0, -0.0, 1.0, -1.0, float("inf"), 3e38, 2**-126]
    number = np.float32(rng.choice([*special, rng.uniform(-4, 4), rng.uniform(-1e6, 1e6)]))
    return int(number.view(np.uint32))


def random_copies(
    rng: random.Random, copies: int, fmt: NumberFormat, *, most: int, large: bool = False
) -> Blocks:
    """Return fibers of up to ``most`` blocks, each with any of its copies."""
    items: list[dict[str, Any]] = []
    count = bench.count(FIBERS)
    for number in range(count):
        span = range(1 << 16 - copies) if rng.random() < 0.3 else range(2 * most)
        keys = sorted(rng.sample(span, rng.randint(0, most)))
        blocks = [
            key << copies | copy
            for key in keys
            for copy in sorted(rng.sample(range(1 << copies), rng.randint(1, 1 << copies)))
        ]
        masks = [random_lanes(rng) for _ in blocks]
        if not blocks or rng.random() < 0.2:
            blocks.append(0)
            masks.append(0)
        fiber = rng.getrandbits(32)
        for n, (block, mask) in enumerate(zip(blocks, masks, strict=True)):
            last = n == len(blocks) - 1
            items.append(
                {
                    "coordinate": block,
                    "mask": mask,
                    "value": [
                        random_value(rng, fmt, large) if mask >> lane & 1 else 0
                        for lane in range(LANES)
                    ],
                    "fiber": fiber,
                    "last": last,
                    "final": last and number == count - 1,
                }
            )
    return to_blocks(items)


async def run(dut: Any, copies: int, blocks: Blocks, reduction: Reduction = Reduction.SUM) -> int:
    """Send the blocks, compare with the model and return the cycles from the first to the last."""
    p = bench.parameters
    source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    await bench.start(dut)
    dut.copies.value = copies
    dut.reduction.value = int(reduction)
    await ClockCycles(dut.clk, 2)
    combined, overflow = combine(blocks, copies, configuration(p).dtype, reduction)
    expected, items = to_items(combined), to_items(blocks)
    if not copies:
        items = expected = paired(items, bench.rng())
    cocotb.start_soon(source.send_all(noisy(items, bench.rng())))
    await sink.wait_for(len(expected))
    await ClockCycles(dut.clk, 40)
    for n, (got, want) in enumerate(zip(defined(sink.received), expected, strict=False)):
        if not want["mask"]:
            got = {**got, "coordinate": 0}
        assert got == want, f"block {n}: {got} instead of {want}"
    assert len(sink.received) == len(expected)
    assert int(dut.overflow.value) == overflow
    return int(sink.cycles[-1] - sink.cycles[0])


@cocotb.test()
@cocotb.parametrize(copies=[0, 1, 2], large=[False, True])
async def equals_the_model(dut: Any, copies: int, large: bool) -> None:
    fmt = configuration(bench.parameters).dtype
    blocks = random_copies(bench.rng(), copies, fmt, most=5, large=large)
    assert len(blocks) >= bench.count(FIBERS)
    await run(dut, copies, blocks)


@cocotb.test()
@cocotb.parametrize(reduction=[Reduction.MIN, Reduction.MAX])
async def extremes(dut: Any, reduction: Reduction) -> None:
    fmt = configuration(bench.parameters).dtype
    await run(dut, 2, random_copies(bench.rng(), 2, fmt, most=5), reduction)


@cocotb.test()
async def rate(dut: Any) -> None:
    """One copy takes no extra cycles; with two copies, two lanes are added per cycle."""
    if bench.parameters["stall"]:
        return
    rng = bench.rng()
    fmt = configuration(bench.parameters).dtype

    def fiber(count: int, lanes: int, step: int) -> Blocks:
        mask = (1 << lanes) - 1
        value = [random_value(rng, fmt, False) if n < lanes else 0 for n in range(LANES)]
        last = np.arange(count) == count - 1
        return Blocks.of(
            np.arange(count) * step,
            np.full(count, mask),
            np.tile(value, (count, 1)),
            np.zeros(count),
            last=last,
            final=last,
        )

    assert await run(dut, 0, fiber(200, 16, 1)) == 199
    assert await run(dut, 1, fiber(200, 2, 1)) <= 200
    assert await run(dut, 1, fiber(200, 10, 1)) <= 100 * 6
    # a chain of four takes one lane per cycle
    assert await run(dut, 2, fiber(200, 3, 1)) <= 50 * 6


@pytest.mark.parametrize(
    ("simulator", "dtype", "stall"),
    runs([*product(("int8", "bf16"), (0.0, 0.3))], icarus=[("bf16", 0.3)]),
)
def test_combiner(simulator: str, dtype: str, stall: float) -> None:
    parameters = {"dtype": dtype, "stall": stall}
    run_bench(
        Combiner(configuration(parameters)),
        module=__name__,
        simulator=simulator,
        parameters=parameters,
    )
