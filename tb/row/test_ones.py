"""The all-ones fiber: every size around a block's edge, its order, and empty requests."""

from typing import Any

import cocotb
import pytest

from loopnest_hw.config import LANES
from loopnest_hw.format import BLOCK_MASK_BITS
from loopnest_hw.row.ones import TURNS, Ones
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST
from loopnest_sim.model.ones import ones
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, encode


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_ones(simulator: str) -> None:
    run_bench(Ones(), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(size=[0, 1, 15, 16, 17, 32, 33, 48, 63, 250, 20011], stall=[0.0, 0.4])
async def sizes(dut: Any, size: int, stall: float) -> None:
    """Ascending fibers."""
    await check(dut, size, 0, 0, stall)


@cocotb.test()
@cocotb.parametrize(
    case=[
        (33, 1, 0),  # all of the head before a truncated last pair
        (33, 1, 9),
        (64, 1, 1),
        (31 * 32, 1, 1),  # three coordinates are left for the last pair,
        (33 * 32, 1, 1),  # one,
        (34 * 32, 1, 1),  # and none
        (200 * 32 - 17, 2, 3),
        (1000, 2, 0),
        (1000, 29, 7),
        (20011, 5, 2),
    ],
    stall=[0.0, 0.4],
)
async def turns(dut: Any, case: tuple[int, int, int], stall: float) -> None:
    """Coordinates of the head one by one, between the others."""
    await check(dut, *case, stall)


async def check(dut: Any, size: int, head: int, between: int, stall: float) -> None:
    """Compare fibers, some of them empty, with the golden ones."""
    await bench.start(dut)
    dut.size.value = size
    dut.turns.value = encode(TURNS, {"head": head, "between": between})
    source = Source(dut, "i", FIBER_REQUEST, bench.rng(), stall)
    sink = Sink(dut, "o", FIBER_BLOCKS, bench.rng(), stall)
    empties = [False, True, False, False]
    sender = cocotb.start_soon(source.send_all({"empty": e} for e in empties))
    whole = list(ones(size, head, between)) or [[]]
    wanted = [words for empty in empties for words in ([[]] if empty else whole)]
    items = await sink.wait_for(len(wanted))
    await sender
    coordinates = [_coordinates(words) for words in whole]
    assert sorted(c for of_item in coordinates for c in of_item) == list(range(size))
    lengths = [1 if empty else len(whole) for empty in empties]
    ends = [n == length - 1 for length in lengths for n in range(length)]
    for item, words, last in zip(items, wanted, ends, strict=True):
        assert (item["count"], item["last"]) == (len(words), last)
        got = [w["coordinate"] << BLOCK_MASK_BITS | w["mask"] for w in item["word"]]
        assert got[: len(words)] == words
        # nothing is stored, so nothing has a rank
        assert (item["rank"], item["child"]) == ([0, 0], 0)


def _coordinates(words: list[int]) -> list[int]:
    return [
        (word >> BLOCK_MASK_BITS) * LANES + lane
        for word in words
        for lane in range(LANES)
        if word >> lane & 1
    ]
