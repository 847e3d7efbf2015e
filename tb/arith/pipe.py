"""Drives pipelines that have an ``advance`` instead of streams."""

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
    """Feed items, one per advance, and return the output of each.

    Latencies are in advances. While the pipeline stalls, its inputs change and its outputs must
    hold.
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
        # values read here are those before this edge
        now = {name: int(getattr(dut, name).value) for name in latencies}
        assert before is None or now == before, f"changed during a stall: {before} to {now}"
        for name, latency in latencies.items():
            if advance and 0 <= advances - latency < total:
                results[advances - latency][name] = now[name]
        before = None if advance else now
        advances += advance
    return results
