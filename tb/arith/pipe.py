"""Drives pipes that have an ``advance`` instead of a stream."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from cocotb.triggers import RisingEdge


async def run_pipe(
    dut: Any,
    items: Sequence[dict[str, int]],
    latencies: Mapping[str, int],
    *,
    stall: float,
    rng: random.Random,
) -> list[dict[str, int]]:
    """Put items in, one each advance, and return what comes out of each.

    An output's latency is in advances. While the pipe stands still, its inputs change and its
    outputs must not.
    """
    total = len(items)
    results: list[dict[str, int]] = [{} for _ in items]
    advances = 0
    before: dict[str, int] | None = None
    while advances < total + max(latencies.values()):
        for name, value in items[min(advances, total - 1)].items():
            getattr(dut, name).value = value
        advance = rng.random() >= stall
        dut.advance.value = int(advance)
        if not advance:
            for name in items[0]:
                getattr(dut, name).value = rng.choice(items)[name]
        await RisingEdge(dut.clk)
        # what is read now was there before this edge
        now = {name: int(getattr(dut, name).value) for name in latencies}
        assert before is None or now == before, f"moved while it stood still: {before} to {now}"
        for name, latency in latencies.items():
            if advance and 0 <= advances - latency < total:
                results[advances - latency][name] = now[name]
        before = None if advance else now
        advances += advance
    return results
