"""Lines per cycle of the whole cache, compared with an ideal one or with its ports."""

import os
import random
from collections import deque
from dataclasses import asdict
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.cache.cache import Cache
from loopnest_hw.cache.geometry import CacheConfig
from loopnest_hw.config import make_config
from tb.cache.system import System
from tb.harness import bench, run_bench

LATENCY = (100, 100)
HIT_LATENCY = 5

CYCLES = 1600
"""Length of a measurement."""

IDEAL_WINDOW = 4
"""Requests in a window of the ideal crossbar, which has room for the next in the same cycle."""


def ideal(clients: int, config: CacheConfig) -> float:
    """Return the lines per client and cycle of an ideal crossbar, whose replies never collide.

    The clients request random lines, of random banks, as long as their windows have room. Each bank
    serves one of the requests for it in each cycle.
    """
    rng = random.Random(1)
    windows: list[list[int]] = [[] for _ in range(clients)]
    turns = [0] * config.banks
    replies = [0] * clients
    served = 0
    cycles = 3000
    for _ in range(cycles):
        for bank in range(config.banks):
            for c in ((turns[bank] + n) % clients for n in range(clients)):
                if bank in windows[c]:
                    windows[c].remove(bank)
                    turns[bank] = c + 1
                    replies[c] += 1
                    break
        for c, window in enumerate(windows):
            served += min(1, replies[c])
            replies[c] -= min(1, replies[c])
            if len(window) < IDEAL_WINDOW:
                window.append(rng.randrange(config.banks))
    return served / cycles / clients


async def measured(system: System, active: int) -> float:
    """Return the lines per cycle of the first clients, each."""
    await ClockCycles(system.dut.clk, 60)
    before, start = sum(system.answers[:active]), system.cycle
    await ClockCycles(system.dut.clk, CYCLES)
    return (sum(system.answers[:active]) - before) / (system.cycle - start) / active


@cocotb.test(timeout_time=100, timeout_unit="us")
async def rates(dut: Any) -> None:
    """All but one client are PEs; the other one, the dispatcher, is idle."""
    rng = bench.rng()
    await bench.start(dut)
    todo: deque[int] = deque()
    system = System(dut, lambda c: todo.popleft() if todo else None, latency=LATENCY)
    config = system.config
    await ClockCycles(dut.clk, config.sets)  # the sweep
    active = config.clients - 1
    found: dict[str, float] = {}

    # every line is new; memory's answers are the bound
    stream = 0

    def new(c: int) -> int | None:
        nonlocal stream
        stream += 1
        return stream if c < active else None

    system.next_line = new
    await ClockCycles(dut.clk, 300)
    before, start = sum(m.reads for m in system.memory), system.cycle
    await ClockCycles(dut.clk, CYCLES)
    reads = sum(m.reads for m in system.memory) - before
    found["memory ports"] = reads / (system.cycle - start) / config.ports
    await system.drain()

    # the last ones are in the cache
    here = range(stream - 16 * config.banks, stream)
    system.next_line = lambda c: rng.choice(here) if c < active else None
    found["random hits"] = await measured(system, active)
    await system.drain()
    system.next_line = lambda c: here[0] if c < active else None
    found["one line"] = await measured(system, active)
    await system.drain()
    lines = iter(list(here) * 99)
    system.next_line = lambda c: next(lines) if c == 0 else None
    found["one client"] = await measured(system, 1)
    assert system.shortest == HIT_LATENCY
    bound = ideal(active, config)
    dut._log.info("%s, ideal for random hits %.3f", found, bound)
    print({name: round(rate, 3) for name, rate in found.items()}, f"ideal {bound:.3f}")
    assert found["memory ports"] >= 0.95
    assert found["random hits"] >= bench.parameters["hits"] * bound
    assert found["one line"] >= 0.99
    assert found["one client"] >= 0.99


@pytest.mark.parametrize(
    ("size", "banks", "hits"),
    [("small", 4, 0.9), ("small", 8, 0.88), ("large", 16, 0.9)],
)
def test_rates(size: str, banks: int, hits: float) -> None:
    """The caches of the chips with 4 and with 16 PEs; random hits reach this share of the ideal."""
    if size == "large" and not os.environ.get("LOOPNEST_LARGE"):
        pytest.skip("takes minutes to compile; LOOPNEST_LARGE=1 runs it")
    config = CacheConfig.of(make_config(size, cache_banks=banks))
    run_bench(
        Cache(config),
        module=__name__,
        simulator="verilator",
        parameters={"config": asdict(config), "hits": hits},
    )
