"""Bench of `LineStore`, against the lines and the golden store."""

from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
import pytest

from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.stream.line_store import LineStore
from loopnest_sim.model.gather import LineStore as Golden
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.ring import IMAGE_LINES, run_lines
from tb.streams import Sink

RIDER = 9
"""Bits that go along with a line."""


def configuration(kept: int, depth: int) -> ChipConfig:
    """Return a configuration with these lines and this queue."""
    return make_config("single", kept_lines=kept, stream_depth=depth)


async def run_store(
    dut: Any, numbers: list[int | None], ring: tuple[int, int], **options: Any
) -> Sink:
    """Request these lines, and compare those that are read with the golden store's; return the
    sink.
    """
    kept = bench.parameters["kept"]
    config = configuration(kept, bench.parameters["depth"])
    sink, read = await run_lines(dut, config, numbers, ring, rider=RIDER, **options)
    taken = np.array([n for n in numbers if n is not None])
    assert read == taken[Golden(kept).not_kept(taken)].tolist()
    return sink


def apart(numbers: list[int]) -> list[int]:
    """Return the numbers without those that follow the same one."""
    return [numbers[0], *(b for a, b in pairwise(numbers) if a != b)]


@cocotb.test()
@cocotb.parametrize(
    span=[2, 5, 40, IMAGE_LINES],
    timing=[(1, 0, 0.0), (4, 20, 0.0), (100, 60, 0.0), (1, 9, 0.4), (4, 0, 0.4)],
)
async def lines(dut: Any, span: int, timing: tuple[int, int, float]) -> None:
    """Few lines, which are kept, and many, which replace each other, in rings of all sizes. None is
    kept from before the reset.
    """
    rng = bench.rng()
    latency, spread, stall = timing
    size = rng.choice([1, 2, 3, 16, 128])
    base = rng.randrange(128 - size + 1)
    first = rng.randrange(IMAGE_LINES - span + 1)
    count = 40 if size < 4 else 300
    numbers = apart([first + rng.randrange(span) for _ in range(count)])
    among = [m for n in numbers for m in [n, *[None] * rng.choice([0, 0, 0, 1, 2])]]
    await run_store(
        dut, among, (base, base + size - 1), latency=latency, spread=spread, stall=stall
    )


@cocotb.test()
@cocotb.parametrize(kept=[False, True])
async def a_line_a_cycle(dut: Any, kept: bool) -> None:
    """One line per cycle, whether it is read or kept; and one item, if none is taken."""
    if bench.parameters["depth"] < 16:
        return
    lines = bench.parameters["kept"]
    numbers = [*range(lines), *([n % lines for n in range(200)] if kept else range(20, 220))]
    items: list[int | None] = [*apart(numbers)]
    items[-60:-50] = [None] * 10
    sink = await run_store(dut, items, (3, 34), latency=8)
    assert sink.cycles[-1] - sink.cycles[-150] == 149


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("kept", "depth"), [(16, 128), (2, 1), (4, 3)])
def test_line_store(simulator: str, kept: int, depth: int) -> None:
    run_bench(
        LineStore(configuration(kept, depth), RIDER),
        module=__name__,
        simulator=simulator,
        parameters={"kept": kept, "depth": depth},
    )
