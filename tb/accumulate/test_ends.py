"""`Ends` against queues of what was decided and ended."""

from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.ends import END, Ends
from loopnest_hw.config import make_config
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports
from tb.streams import encode

CONFIG = make_config("shrunk", fibers_in_flight=2)
DEPTH = CONFIG.passes_ended
CYCLES = 4000

TABLE = 3
"""Ends in the table's pipeline."""


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_ends(simulator: str) -> None:
    run_bench(Ends(CONFIG), module=__name__, simulator=simulator)


@cocotb.test()
@cocotb.parametrize(pace=[(1.0, 1.0, 1.0), (1.0, 0.2, 1.0), (1.0, 1.0, 0.2), (0.3, 0.5, 0.5)])
async def ends(dut: Any, pace: tuple[float, float, float]) -> None:
    """Every pass in order, from the cycle after its last term on; never more than there is room."""
    rng = bench.rng()
    ports = Ports(dut, Ends(CONFIG))
    await bench.start(dut)
    decided: deque[dict[str, int]] = deque()  # not yet ended, ...
    ended: deque[dict[str, int]] = deque()
    filled: deque[dict[str, int]] = deque()
    pipeline: deque[int] = deque()  # the cycles from which on ends can be decided
    taken = most = 0
    full = False
    for cycle in range(CYCLES):
        await FallingEdge(dut.clk)
        count = len(decided) + len(ended) + len(filled)
        assert ports["expecting"] == bool(decided)
        assert ports["waiting"] == (count > 0)
        assert ports["ready"] == bool(filled)
        full |= not ports["room"]
        most = max(most, count)
        # the table takes an end where there is room, and decides it three cycles later or more
        decides = bool(pipeline) and cycle >= pipeline[0] and rng.random() < pace[0]
        if decides:
            pipeline.popleft()
        if ports["room"] and len(pipeline) < TABLE:
            pipeline.append(cycle + TABLE)
        ports["decides"] = decides
        new = {"bare": rng.getrandbits(1), "again": rng.getrandbits(1)}
        ports["decided"] = new
        # the fill
        ends = bool(decided) and rng.random() < pace[1]
        last = {"fiber": rng.getrandbits(32), "final": rng.getrandbits(1)}
        ports["last"], ports["ended"] = ends, last
        fills = bool(ended) and rng.random() < pace[1]
        ports["filled"] = fills
        # the drain
        if filled:
            assert encode(END, ports["end"]) == encode(END, filled[0])
        takes = bool(filled) and rng.random() < pace[2]
        ports["next"] = takes
        await RisingEdge(dut.clk)
        if takes:
            filled.popleft()
            taken += 1
        if fills:
            filled.append(ended.popleft())
        if ends:
            ended.append(decided.popleft() | last)
        if decides:
            decided.append(new)
    assert taken > CYCLES / 8
    assert most <= DEPTH
    if pace[0] == 1:
        # the last place is used
        assert full == (most == DEPTH) == (min(pace) < 1)
    if min(pace) == 1:
        assert taken > CYCLES - 10
