"""The step former against `form`."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import make_config
from loopnest_hw.leaf.former import Former
from loopnest_hw.leaf.layouts import formed, placed
from loopnest_sim.model.form import form
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("multipliers", [1, 4, 16])
def test_former(simulator: str, multipliers: int) -> None:
    config = make_config("tiny", multipliers=multipliers)
    run_bench(
        Former(config),
        module=__name__,
        simulator=simulator,
        parameters={"multipliers": multipliers},
    )


def test_stream_law() -> None:
    prove_stream_law(Former(make_config("tiny")), outputs=["o"], inputs_assumed=["i"])


def random_lanes(rng: random.Random) -> int:
    return rng.choice([1 << rng.randrange(16), rng.randrange(1, 1 << 16), (1 << 16) - 1, 0x11])


@cocotb.test()
@cocotb.parametrize(mode=["dot", "axpy", "scatter"], stall=[0.0, 0.4])
async def random_fibers(dut: Any, mode: str, stall: float) -> None:
    multipliers = bench.parameters["multipliers"]
    config = make_config("tiny", multipliers=multipliers)
    exclusive, single = mode == "axpy", mode == "scatter"
    await bench.start(dut)
    dut.exclusive.value = exclusive
    dut.single.value = single
    rng = bench.rng()
    source = Source(dut, "i", placed(config), bench.rng(), stall)
    sink = Sink(dut, "o", formed(config), bench.rng(), stall)
    items: list[dict[str, Any]] = []
    expected: list[tuple[int, list[tuple[int, int]], bool]] = []
    for fiber in range(60):
        blocks = [random_lanes(rng) for _ in range(rng.choice([0, 1, 2, 3, 9]))]
        items += fiber_items(config, fiber, blocks)
        steps = form(blocks, multipliers, exclusive=exclusive, single=single)
        for n, step in enumerate(steps):
            expected.append((fiber, step, n == len(steps) - 1))
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(expected))
    await sender
    await ClockCycles(dut.clk, 20)
    assert len(sink.received) == len(expected) >= 60
    for item, (fiber, step, last) in zip(sink.received, expected, strict=True):
        got = [
            (item["block"][n]["place"], lane)
            for n in range(2)
            for lane in range(16)
            if item["take"][n] >> lane & 1
        ]
        assert (item["fiber"]["fiber"], got) == (fiber, step)
        assert bool(item["last"]) == last


@cocotb.test()
@cocotb.parametrize(lanes=[1, "half", 16])
async def a_step_a_cycle(dut: Any, lanes: Any) -> None:
    """One step from two sparse blocks, or many from a full one: there is no bubble."""
    multipliers = bench.parameters["multipliers"]
    config = make_config("tiny", multipliers=multipliers)
    await bench.start(dut)
    dut.exclusive.value = 0
    dut.single.value = 0
    source = Source(dut, "i", placed(config), bench.rng())
    sink = Sink(dut, "o", formed(config), bench.rng())
    count = max(1, multipliers // 2) if lanes == "half" else lanes
    blocks = [(1 << count) - 1] * 24
    steps = [step for _ in range(4) for step in form(blocks, multipliers, exclusive=False)]
    items = [item for fiber in range(4) for item in fiber_items(config, fiber, blocks)]
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(steps))
    await sender
    assert sink.cycles[-1] - sink.cycles[0] + 1 == max(len(steps), len(items))


def fiber_items(config: Any, fiber: int, blocks: list[int]) -> list[dict[str, Any]]:
    """Return a fiber's blocks as the placer sends them; their places are their numbers."""
    operands = config.operands
    items = []
    for at in range(0, max(1, len(blocks)), 2):
        pair = blocks[at : at + 2]
        entries = [
            {
                "lanes": lanes,
                "mask": [0] * operands,
                "base": [0] * operands,
                "place": at + n,
                "first": 0,
                "index": 0,
            }
            for n, lanes in enumerate(pair + [0xFFFF] * (2 - len(pair)))
        ]
        items.append(
            {
                "block": entries,
                "count": len(pair),
                "fiber": {"present": 0, "fiber": fiber, "end": 0, "final": 0},
                "last": at + 2 >= len(blocks),
            }
        )
    return items
