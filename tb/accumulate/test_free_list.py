"""`FreeList` against a queue of slots."""

from collections import deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from loopnest_hw.accumulate.free_list import FreeList
from loopnest_hw.config import PAIR, make_config
from tb.harness import SIMULATORS, bench, run_bench
from tb.ports import Ports

LATE = 4
"""Cycles after which a freed slot can be taken."""

GAP = 2
"""Cycles without a slot when the last fresh one is gone."""

CYCLES = 1500


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("slots", [2, 21])
def test_free_list(simulator: str, slots: int) -> None:
    """The smallest number of slots, and more than the registers hold."""
    if slots == 2 and simulator == "verilator":
        pytest.skip("left to the other simulator")
    run_bench(
        FreeList(make_config(slots=slots)),
        module=__name__,
        simulator=simulator,
        parameters={"slots": slots},
    )


@cocotb.test()
@cocotb.parametrize(
    # probabilities that slots are taken and freed in a cycle, in turn
    paces=[
        [(2.0, 0.5)],
        [(2.0, 1.0)],
        [(2.0, 1.5)],
        [(2.0, 2.0)],
        [(2.0, 0.0), (0.0, 1.7)],
        [(1.0, 0.6), (0.3, 1.4)],
    ]
)
async def slots(dut: Any, paces: list[tuple[float, float]]) -> None:
    """Every slot once, in order, and within its latency."""
    rng = bench.rng()
    count = bench.parameters["slots"]
    ports = Ports(dut, FreeList(make_config(slots=count)))
    await bench.start(dut)
    # the free slots, and the cycle from which on they must be available
    free = deque((slot, 0) for slot in range(count))
    out: list[int] = []
    taken = 0
    late = empty = full = False
    fresh_until = CYCLES
    for cycle in range(CYCLES):
        take_pace, back_pace = paces[cycle // (2 * count + 9) % len(paces)]
        await FallingEdge(dut.clk)
        some, shown = ports["some"], ports["slot"]
        assert some in (0b00, 0b01, 0b11)
        there = some.bit_count()
        due = sum(since <= cycle for _, since in free)
        if fresh_until <= cycle < fresh_until + GAP:
            due = 0
        assert min(due, 1) <= there <= len(free), f"cycle {cycle}: {there} of {list(free)}"
        assert min(due, PAIR) <= there or not late, f"cycle {cycle}: {there} of {list(free)}"
        late = there < min(due, PAIR)
        assert shown[:there] == [slot for slot, _ in list(free)[:there]], f"cycle {cycle}"
        assert ports["free"] == len(free)

        take = min(there, int(take_pace) + (rng.random() < take_pace % 1))
        wish = int(back_pace) + (rng.random() < back_pace % 1)
        comes = [out.pop(rng.randrange(len(out))) for _ in range(min(wish, len(out)))]
        ports["take"] = take
        ports["back_valid"] = (1 << len(comes)) - 1
        ports["back"] = comes + [rng.randrange(count) for _ in range(PAIR - len(comes))]
        await RisingEdge(dut.clk)
        out += [free.popleft()[0] for _ in range(take)]
        taken += take
        if fresh_until > cycle and taken >= count:
            fresh_until = cycle + 1
        late_for = LATE if free else 1
        free.extend((slot, cycle + late_for) for slot in comes)
        empty |= not free
        full |= cycle > 0 and not out
    assert sorted([slot for slot, _ in free] + out) == list(range(count))
    assert taken > 100
    assert (empty and full) or len(paces) == 1
