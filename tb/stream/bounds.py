"""Drives bounds like a joiner that intersects fibers with a partner."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from loopnest_hw.format import BLOCK_COORDINATE_BITS
from loopnest_hw.tokens import BOUND_BITS, FIBER_BLOCKS
from tb.harness import bench
from tb.streams import Sink, decode

INFINITE = 1 << BLOCK_COORDINATE_BITS
"""A bound above all coordinates."""

Word = tuple[int, int, int]
"""A block's coordinate, its mask and its rank."""


async def check_bounded(
    dut: Any,
    port: str,
    sink: Sink,
    fibers: list[list[dict[str, Any]]],
    share: float,
    *,
    patience: float = 1.0,
) -> int:
    """Drive the bound for a partner that matches some of the words of the fibers at ``<port>o``,
    and check that every matching word arrives unchanged.

    Parameters
    ----------
    fibers : list of list of `tokens.FIBER_BLOCKS`
        All items of each.
    share : float
        Share of the words that match.
    patience : float
        Probability that the bound is updated in a cycle.

    Returns
    -------
    int
        The number of words that were passed on.
    """
    rng = bench.rng()
    words = [[word for item in fiber for word in words_of(item)] for fiber in fibers]
    # the partner also has coordinates that do not match
    wanted = [
        [c + rng.choice([0, 0, 0, 1]) for c, _, _ in fiber if rng.random() < share]
        for fiber in words
    ]
    cocotb.start_soon(_bound(dut, port, wanted, patience, rng))
    seen = 0
    for number, mine in enumerate(words):
        got: list[Word] = []
        ended = False
        while not ended:
            await sink.wait_for(seen + 1, idle=2000)
            item = sink.received[seen]
            seen += 1
            ended = bool(item["last"])
            assert item["count"] or ended
            assert item["child"] == fibers[number][0]["child"]
            got += words_of(item)
        wrong = [word for word in got if word not in mine]
        assert not wrong and got == sorted(got), f"fiber {number}: {wrong} of {got}"
        missing = set(mine) - set(got)
        assert not {c for c, _, _ in missing} & set(wanted[number])
    await ClockCycles(dut.clk, 100)
    assert len(sink.received) == seen
    return sum(item["count"] for item in sink.received)


def words_of(item: dict[str, Any]) -> list[Word]:
    """Return the words of an item."""
    return [
        (item["word"][n]["coordinate"], item["word"][n]["mask"], item["rank"][n])
        for n in range(item["count"])
    ]


async def _bound(
    dut: Any, port: str, wanted: list[list[int]], patience: float, rng: random.Random
) -> None:
    """Drive the bound, sometimes with a delay."""
    bound, valid, ready, payload = (
        getattr(dut, f"{port}{name}") for name in ("bound", "o__valid", "o__ready", "o__payload")
    )
    fiber = 0
    done = -1  # the last coordinate that has left
    head = following = 0
    while True:
        await ReadOnly()
        item = decode(FIBER_BLOCKS, int(payload.value))
        here = bool(int(valid.value))
        last = here and item["last"]
        left = [c for c in wanted[fiber] if c > done] if fiber < len(wanted) else []
        left = [*left, INFINITE, INFINITE]
        if last:
            head = following = 0
        elif rng.random() < patience:
            head, following = left[0], left[rng.choice([0, 1, 1, 1])]
        if here and int(ready.value):
            if item["count"]:
                done = item["word"][item["count"] - 1]["coordinate"]
            if last:
                fiber, done = fiber + 1, -1
        await RisingEdge(dut.clk)
        bound.value = head | following << BOUND_BITS
