"""Bench of the assembler."""

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw import tokens
from loopnest_hw.config import LANES, make_config
from loopnest_hw.result.assembler import Assembler
from loopnest_sim.model.assemble import assemble
from tb.formal import prove_stream_law
from tb.harness import bench, run_bench, runs
from tb.result.items import defined, to_items
from tb.streams import Sink, Source

FIBERS = 200


def random_terms(rng: random.Random, multipliers: int) -> list[dict[str, Any]]:
    """Return items of terms: steps of up to two blocks each, lanes distinct within a step."""
    items: list[dict[str, Any]] = []
    count = bench.count(FIBERS)
    for number in range(count):
        fiber = rng.getrandbits(32)
        block = rng.choice((0, 5, 60000))
        lane = 0
        ended = False
        while not ended:
            terms: list[tuple[int, int]] = []
            for _ in range(rng.choice((0, 1, multipliers, multipliers))):
                if lane == LANES or rng.random() < 0.2:
                    if len({b for b, _ in terms}) == 2:
                        break
                    block, lane = block + rng.choice((1, 1, 7)), 0
                free = [x for x in range(lane, LANES) if x not in [t for _, t in terms]]
                if not free or len({b for b, _ in terms} | {block}) > 2:
                    break
                place = free[min(len(free) - 1, rng.choice((0, 0, 1, 5)))]
                terms.append((block, place))
                lane = place + 1
            # not every lane has a term
            used = sorted(rng.sample(range(multipliers), len(terms)))
            at = dict(zip(used, terms, strict=True))
            ended = rng.random() < 0.3 or block > 65000
            items.append(
                {
                    "valid": sum(1 << k for k in at),
                    "value": [rng.getrandbits(32) for _ in range(multipliers)],
                    "index": [
                        at[k][1] if k in at else rng.randrange(LANES) for k in range(multipliers)
                    ],
                    "place": [
                        at[k][0] if k in at else rng.getrandbits(16) for k in range(multipliers)
                    ],
                    "fiber": fiber,
                    "end": ended,
                    "final": ended and number == count - 1,
                }
            )
    return items


def reference(items: list[dict[str, Any]], multipliers: int) -> list[dict[str, Any]]:
    """Return the model's blocks of the items."""
    valid = np.array([item["valid"] for item in items])
    return to_items(
        assemble(
            (valid[:, None] >> np.arange(multipliers) & 1).astype(np.bool_),
            np.array([item["value"] for item in items]),
            np.array([item["index"] for item in items]),
            np.array([item["place"] for item in items]),
            np.array([item["fiber"] for item in items]),
            end=np.array([item["end"] for item in items], np.bool_),
            final=np.array([item["final"] for item in items], np.bool_),
        )
    )


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    p = bench.parameters
    config = make_config(multipliers=p["multipliers"])
    rng = bench.rng()
    source = Source(dut, "i", tokens.terms(config), bench.rng(), stall=p["stall"])
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng(), stall=p["stall"])
    await bench.start(dut)
    items = random_terms(rng, config.multipliers)
    await source.send_all(items)
    expected = reference(items, config.multipliers)
    assert len(expected) >= bench.count(FIBERS)
    assert defined(await sink.wait_for(len(expected))) == expected
    assert not int(dut.unordered.value)


@cocotb.test()
async def keys_that_do_not_ascend(dut: Any) -> None:
    """A key that repeats, or is below the previous one, is reported; a new fiber restarts the
    check.
    """
    config = make_config(multipliers=bench.parameters["multipliers"])
    m = config.multipliers
    rng = bench.rng()
    source = Source(dut, "i", tokens.terms(config), bench.rng())
    Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng())
    await bench.start(dut)
    found = set()
    for _ in range(60):
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        keys: list[int] = []
        items = []
        for _ in range(2):
            own = sorted(rng.sample(range(64), 4))
            if rng.random() < 0.3:
                n = rng.randrange(1, 4)
                own[n] = rng.choice((own[n - 1], rng.randrange(64)))
            keys += own
            items += [
                {
                    "valid": 1,
                    "value": [7] * m,
                    "index": [key % 16] * m,
                    "place": [key // 16] * m,
                    "fiber": 3,
                    "end": n == 3,
                    "final": 0,
                }
                for n, key in enumerate(own)
            ]
        fibers = keys[:4], keys[4:]
        wrong = any(b <= a for fiber in fibers for a, b in pairwise(fiber))
        await source.send_all(items)
        await ClockCycles(dut.clk, 12)
        assert int(dut.unordered.value) == wrong, keys
        found.add(wrong)
    assert found == {True, False}


@cocotb.test()
async def a_fiber_a_cycle(dut: Any) -> None:
    """Fibers of one term each, and then one long fiber, pass at one item per cycle."""
    config = make_config(multipliers=bench.parameters["multipliers"])
    source = Source(dut, "i", tokens.terms(config), bench.rng())
    sink = Sink(dut, "o", tokens.RESULT_BLOCK, bench.rng())
    await bench.start(dut)
    m = config.multipliers

    def term(place: int, index: int, end: bool) -> dict[str, Any]:
        return {
            "valid": 1,
            "value": [place * 16 + index + 1] * m,
            "index": [index] * m,
            "place": [place] * m,
            "fiber": 3,
            "end": end,
            "final": 0,
        }

    items = [term(7, 3, True)] * 50 + [term(b, 2, False) for b in range(50)] + [term(50, 0, True)]
    await source.send_all(items)
    expected = reference(items, m)
    assert defined(await sink.wait_for(len(expected))) == expected
    assert sink.cycles[-1] - sink.cycles[0] <= len(expected) + 1


@pytest.mark.parametrize(
    ("simulator", "multipliers", "stall"),
    runs([(4, 0.0), (4, 0.3), (1, 0.3), (16, 0.2)], icarus=[(4, 0.3), (1, 0.3)]),
)
def test_assembler(simulator: str, multipliers: int, stall: float) -> None:
    run_bench(
        Assembler(make_config(multipliers=multipliers)),
        module=__name__,
        simulator=simulator,
        parameters={"multipliers": multipliers, "stall": stall},
    )


def test_stream_law() -> None:
    prove_stream_law(Assembler(make_config(multipliers=2)), outputs=["o"], inputs_assumed=["i"])
