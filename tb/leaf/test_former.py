"""The step former against `form`."""

import random
from itertools import product
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import BANK_SKEW, LANES, ChipConfig, make_config
from loopnest_hw.leaf.former import Former
from loopnest_hw.leaf.layouts import fiber_layout, formed, placed
from loopnest_sim.model.form import form
from tb.formal import prove_stream_law
from tb.harness import bench, run_bench, runs
from tb.streams import Sink, Source, decode

FIBERS = 100
"""Fibers of a run of `random_fibers`."""


@pytest.mark.parametrize(("simulator", "multipliers"), runs([(1,), (4,), (16,)], icarus=[(4,)]))
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
    some = sum(1 << lane for lane in rng.sample(range(16), rng.randint(1, 16)))
    # each half with its lowest lanes
    halves = (1 << rng.randint(0, 8)) - 1 | (1 << rng.randint(1, 8)) - 1 << 8
    return rng.choice([1 << rng.randrange(16), some, some, halves, (1 << 16) - 1, 0x11])


@cocotb.test()
@cocotb.parametrize(mode=["dot", "axpy", "scatter"], stall=[0.0, 0.4])
async def random_fibers(dut: Any, mode: str, stall: float) -> None:
    rng = bench.rng()
    fibers = [
        [random_lanes(rng) for _ in range(rng.choice([0, 1, 2, 3, 9]))]
        for _ in range(bench.count(FIBERS))
    ]
    # the same lane in each block
    fibers += [[1 << rng.randrange(16)] * 9 for _ in range(5)]
    await run_fibers(dut, fibers, mode, stall)


@cocotb.test()
async def counts_at_the_limit(dut: Any) -> None:
    """Each lane as the last one of a step and as the first one beyond it, with any numbers of lanes
    below it in the halves of its block, in the first block or after others.
    """
    limit = bench.parameters["multipliers"]
    rng = bench.rng()
    fibers = []
    for at, low, high in product(range(17), range(9), range(9)):
        halves = range(min(at, 8)), range(8, at)
        if low > len(halves[0]) or high > len(halves[1]):
            continue
        below = rng.sample(halves[0], low) + rng.sample(halves[1], high)
        block = sum(1 << lane for lane in below) | 1 << at & 0xFFFF
        for before in (limit - 1 - len(below), limit - len(below)):
            if before >= 0 and block:
                head = sum(1 << lane for lane in rng.sample(range(16), before))
                fibers.append([head, block] if head else [block, 1 << rng.randrange(16)])
    await run_fibers(dut, fibers, "dot", 0.0)


async def run_fibers(dut: Any, fibers: list[list[int]], mode: str, stall: float) -> None:
    """Send fibers with blocks of these lanes; the steps are those of `form`."""
    multipliers = bench.parameters["multipliers"]
    config = make_config("tiny", multipliers=multipliers)
    await bench.start(dut)
    dut.exclusive.value = mode == "axpy"
    dut.single.value = mode == "scatter"
    rng = bench.rng()
    source = Source(dut, "i", placed(config), bench.rng(), stall)
    sink = Sink(dut, "o", formed(config), bench.rng(), stall)
    items: list[dict[str, Any]] = []
    expected: list[tuple[int, list[tuple[int, int]], bool]] = []
    for fiber, blocks in enumerate(fibers):
        skews = [rng.choice([0, BANK_SKEW]) for _ in blocks]
        items += fiber_items(config, fiber, blocks, skews, rng)
        banks = skews if mode == "axpy" else None
        steps = form(blocks, multipliers, skews=banks, single=mode == "scatter")
        for n, step in enumerate(steps):
            expected.append((fiber, step, n == len(steps) - 1))
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(expected))
    await sender
    await ClockCycles(dut.clk, 20)
    assert len(sink.received) == len(expected) >= len(fibers)
    sent = {
        (item["fiber"]["fiber"], entry["place"]): entry for item in items for entry in item["block"]
    }
    owners = {item["fiber"]["fiber"]: item["fiber"] for item in items}
    for item, (fiber, step, last) in zip(sink.received, expected, strict=True):
        assert item["fiber"] == owners[fiber]
        for block, take in zip(item["block"], item["take"], strict=True):
            entry = sent.get((fiber, block["place"]), {})
            assert not take or block == {name: entry[name] for name in block}
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
    """One step from two sparse blocks, or many from a full one: no bubbles."""
    multipliers = bench.parameters["multipliers"]
    config = make_config("tiny", multipliers=multipliers)
    await bench.start(dut)
    dut.exclusive.value = 0
    dut.single.value = 0
    source = Source(dut, "i", placed(config), bench.rng())
    sink = Sink(dut, "o", formed(config), bench.rng())
    count = max(1, multipliers // 2) if lanes == "half" else lanes
    blocks = [(1 << count) - 1] * 24
    steps = [step for _ in range(4) for step in form(blocks, multipliers)]
    rng = bench.rng()
    skews = [0] * len(blocks)
    items = [item for fiber in range(4) for item in fiber_items(config, fiber, blocks, skews, rng)]
    sender = cocotb.start_soon(source.send_all(items))
    await sink.wait_for(len(steps))
    await sender
    assert sink.cycles[-1] - sink.cycles[0] + 1 == max(len(steps), len(items))


def fiber_items(
    config: ChipConfig, fiber: int, blocks: list[int], skews: list[int], rng: random.Random
) -> list[dict[str, Any]]:
    """Return a fiber's blocks in the placer's form; their places are their numbers."""
    layout = placed(config)
    owner = decode(fiber_layout(config), rng.getrandbits(fiber_layout(config).size))
    items = []
    for at in range(0, max(1, len(blocks)), 2):
        item = decode(layout, rng.getrandbits(layout.size))
        pair = blocks[at : at + 2]
        for n, lanes in enumerate(pair + [0xFFFF] * (2 - len(pair))):
            skew = skews[at + n] if n < len(pair) else rng.randrange(LANES)
            item["block"][n] |= {"lanes": lanes, "place": at + n, "index": skew}
        item |= {"count": len(pair), "fiber": owner | {"fiber": fiber}}
        items.append(item | {"last": int(at + 2 >= len(blocks))})
    return items
