"""Drives pipes that have an ``advance`` instead of a stream."""

import random
from collections.abc import Iterable
from typing import Any

from cocotb.triggers import RisingEdge

from tb.harness import bench


async def run_pipe(
    dut: Any,
    items: Iterable[dict[str, int]],
    outputs: Iterable[str],
    *,
    latency: int,
    stall: float,
    rng: random.Random,
) -> list[dict[str, int]]:
    """Put items in, one each advance, and return what comes out ``latency`` advances later.

    While the pipe stands still, its inputs change and its outputs must not.
    """
    dut.advance.value = 0
    await bench.start(dut)
    waiting = list(items)
    total = len(waiting)
    names = list(outputs)
    results: list[dict[str, int]] = []
    advances = 0
    before: dict[str, int] | None = None
    advance = False
    while len(results) < total:
        if waiting:
            for name, value in waiting[min(advances, total - 1)].items():
                getattr(dut, name).value = value
        advance = rng.random() >= stall
        dut.advance.value = int(advance)
        if not advance and waiting:
            for name in waiting[0]:
                getattr(dut, name).value = rng.choice(list(waiting))[name]
        await RisingEdge(dut.clk)
        # what is read now was there before this edge
        now = {name: int(getattr(dut, name).value) for name in names}
        assert before is None or now == before, f"moved while it stood still: {before} to {now}"
        if advance and advances >= latency:
            results.append(now)
        before = None if advance else now
        advances += advance
    return results
