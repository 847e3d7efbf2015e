"""Drives pipelines that have an ``advance`` or a ``load`` instead of streams."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from cocotb.triggers import RisingEdge

BUBBLES = 0.2
"""Share of the advances that bring no item to a pipeline with ``load``."""


async def run_pipe(
    dut: Any,
    items: Sequence[dict[str, int]],
    latencies: Mapping[str, int],
    *,
    stages: int | None = None,
    stall: float,
    rng: random.Random,
) -> list[dict[str, int]]:
    """Feed items in order, and return the output of each.

    Latencies are in advances. With ``stages``, the unit has a ``load`` with a bit for each, as of
    `delay.Flow`; otherwise it has an ``advance``, and takes an item with each. While an input is
    not taken it changes, and while an output's register does not load it must hold.
    """
    results: list[dict[str, int]] = [{} for _ in items]
    inside: list[int | None] = [None] * (stages or max(latencies.values()))
    sent = 0
    before: dict[str, int] = {}
    while sent < len(items) or any(item is not None for item in inside):
        bubble = sent == len(items) or (stages is not None and rng.random() < BUBBLES)
        advance = rng.random() >= stall
        # the item at the input of each stage, and that at the last one's output
        at = [None if bubble else sent, *inside]
        takes = advance and not bubble
        for name, value in (items[sent] if takes else rng.choice(items)).items():
            getattr(dut, name).value = value
        if stages is None:
            loads = [advance for _ in inside]
            dut.advance.value = int(advance)
        else:
            loads = [advance and item is not None for item in at[:-1]]
            dut.load.value = sum(load << n for n, load in enumerate(loads))
        await RisingEdge(dut.clk)
        # values read here are those before this edge
        now = {name: int(getattr(dut, name).value) for name in latencies}
        held = {name: now[name] for name in before}
        assert held == before, f"changed without a load: {before} to {held}"
        for name, latency in latencies.items():
            item = at[latency]
            if advance and item is not None:
                results[item][name] = now[name]
        before = {name: now[name] for name, latency in latencies.items() if not loads[latency - 1]}
        if advance:
            inside = at[:-1]
            sent += takes
    return results
