"""The placer against `place`, with an accumulator with random answers."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import MAX_LOG2_COPIES, PAIR, make_config
from loopnest_hw.descriptor import CellMode, LeafMode, ResultMode
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.leaf.layouts import placed
from loopnest_hw.leaf.placer import Placer
from loopnest_hw.tokens import found, joined, lookup, token
from loopnest_sim.model import place
from loopnest_sim.model.expand import Cell, ResultCell, Token
from loopnest_sim.model.join import Joined
from tb.harness import SIMULATORS, bench, run_bench
from tb.row.test_expander import token_value
from tb.streams import Sink, Source, encode

CONFIG = make_config("tiny")
OPERANDS = range(CONFIG.operands)
KERNEL = kernel_layout(CONFIG)
NO_BLOCK = Joined(0, 0, (0,) * CONFIG.operands, (0,) * CONFIG.operands)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_placer(simulator: str) -> None:
    run_bench(Placer(CONFIG), module=__name__, simulator=simulator)


def random_leaf(rng: random.Random, mode: LeafMode, accumulate: bool) -> place.Leaf:
    steps = [1, 1, 7, 1000, rng.getrandbits(32)]
    results = {
        LeafMode.AXPY: ResultCell(ResultMode.KEY, 1),
        LeafMode.DOT: ResultCell(ResultMode.HOLD, 1),
        LeafMode.SCATTER: ResultCell(
            rng.choice([ResultMode.KEY, ResultMode.HOLD]), rng.choice([1, 16, 250])
        ),
    }
    return place.Leaf(
        cells=tuple(Cell(rng.choice(list(CellMode)), False, rng.choice(steps)) for _ in OPERANDS),
        result=results[mode],
        mode=mode,
        accumulate=accumulate,
        copies=rng.randrange(MAX_LOG2_COPIES + 1) if accumulate else 0,
        drain_stop=rng.randrange(1, CONFIG.rows),
        inner=rng.randrange(1, CONFIG.rows),
    )


def kernel_bits(leaf: place.Leaf) -> int:
    """Return the settings that the placer reads."""
    # the leaf row is one of the inner loops
    rows: list[dict[str, Any]] = [{"bypass": r >= leaf.inner} for r in range(CONFIG.rows - 1)]
    rows.append(
        {
            "cell": [{"mode": c.mode.value, "step": c.step} for c in leaf.cells],
            "result_mode": leaf.result.mode.value,
            "result_step": leaf.result.step,
        }
    )
    kernel = {
        "leaf_mode": leaf.mode.value,
        "accumulate": leaf.accumulate,
        "copies": leaf.copies,
        "drain_stop": leaf.drain_stop,
        "row": rows,
    }
    return encode(KERNEL, kernel)


def random_groups(rng: random.Random, mode: LeafMode) -> list[list[Joined]]:
    """Return a fiber's blocks as items of the joiner or the scatter unit."""

    def block() -> Joined:
        lanes = rng.randrange(1, 1 << 16)
        return Joined(
            rng.getrandbits(16),
            1 << rng.randrange(16) if mode is LeafMode.SCATTER else lanes,
            tuple(rng.getrandbits(16) for _ in OPERANDS),
            tuple(rng.getrandbits(20) for _ in OPERANDS),
        )

    most = 1 if mode is LeafMode.SCATTER else PAIR
    groups = [[block() for _ in range(rng.randint(1, most))] for _ in range(rng.choice([1, 1, 4]))]
    return rng.choice([groups, groups, groups, [[]]])


def item_value(group: list[Joined], child: list[int], last: bool) -> dict[str, Any]:
    """Return a group of blocks as a stream item."""
    blocks = [
        {"coordinate": b.coordinate, "lanes": b.lanes, "mask": list(b.mask), "rank": list(b.rank)}
        for b in group + [NO_BLOCK] * (PAIR - len(group))
    ]
    return {"block": blocks, "count": len(group), "child": child, "last": last}


def lookup_value(item: dict[str, Any]) -> place.Lookup:
    """Return the lookup of a stream item."""
    blocks = tuple((item["block"][n], item["mask"][n]) for n in range(item["count"]))
    return place.Lookup(blocks, *(bool(item[name]) for name in ("end", "retire", "final")))


def placed_value(item: dict[str, Any]) -> tuple[Any, ...]:
    """Return lanes and blocks of an output item."""
    blocks = item["block"][: item["count"]]
    return (
        tuple(b["lanes"] for b in blocks),
        tuple(
            place.PlacedBlock(
                tuple(b["mask"]), tuple(b["base"]), b["place"], b["first"], b["index"]
            )
            for b in blocks
        ),
    )


def random_token(rng: random.Random) -> Token:
    return Token(
        tuple(rng.getrandbits(32) for _ in OPERANDS),
        tuple(rng.random() < 0.7 for _ in OPERANDS),
        rng.getrandbits(32),
        rng.getrandbits(16) << 4,
        rng.choice([0, 0, 0, 1, 2]),
        rng.random() < 0.2,
    )


@cocotb.test()
@cocotb.parametrize(mode=[0, 1, 2], accumulate=[0, 1], stall=[0.0, 0.4])
async def random_fibers(dut: Any, mode: int, accumulate: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    leaf = random_leaf(rng, LeafMode(mode), bool(accumulate))
    dut.kernel.value = kernel_bits(leaf)
    epoch = rng.getrandbits(1)
    dut.epoch.value = epoch
    placer = place.Placer(leaf)
    items: list[dict[str, Any]] = []
    contexts: list[dict[str, Any]] = []
    expected: list[tuple[Token, bool, place.Item]] = []
    for n in range(bench.count(120)):
        context = random_token(rng)
        # Stale items come first.
        stale = bool(accumulate) and n < 20
        if n == 20:
            placer = place.Placer(leaf)
        groups = random_groups(rng, leaf.mode)
        child = [rng.getrandbits(32) for _ in OPERANDS]
        contexts.append(token_value(context) | {"epoch": epoch ^ stale})
        if not context.null:
            items += [item_value(g, child, k == len(groups) - 1) for k, g in enumerate(groups)]
        placed_items = placer.place(context, groups, child, stale=stale)
        expected += [(context, stale, item) for item in placed_items]

    lookups = [(stale, item.lookup) for _, stale, item in expected if item.lookup is not None]
    answers = [
        [
            place.Found(rng.random() < 0.8, rng.randrange(CONFIG.slots), rng.getrandbits(16))
            for _ in range(PAIR)
        ]
        for _ in lookups
    ]
    replies = [
        {
            "keep": sum(f.keep << n for n, f in enumerate(answer)),
            "slot": [f.slot for f in answer],
            "first": [f.first for f in answer],
            "stale": stale,
        }
        for answer, (stale, _) in zip(answers, lookups, strict=True)
    ]
    blocks_in = Source(dut, "i", joined(CONFIG, PAIR), bench.rng(), stall)
    contexts_in = Source(dut, "context", token(CONFIG), bench.rng(), stall)
    replies_in = Source(dut, "found", found(CONFIG), bench.rng())
    asked = Sink(dut, "lookup", lookup(CONFIG), bench.rng(), stall)
    retired = Sink(dut, "retired", 1, bench.rng(), stall)
    sink = Sink(dut, "o", placed(CONFIG), bench.rng(), stall)

    async def reply() -> None:
        for n, value in enumerate(replies):
            await asked.wait_for(n + 1)
            if stall:
                await ClockCycles(dut.clk, rng.randrange(1, 8))
            await replies_in.send(value)

    senders = [
        cocotb.start_soon(reply()),
        cocotb.start_soon(blocks_in.send_all(items)),
        cocotb.start_soon(contexts_in.send_all(contexts)),
    ]
    results: list[tuple[Token, place.Item, Any]] = []
    answer: list[place.Found] = []
    left = iter(answers)
    for context, stale, item in expected:
        answer = next(left) if item.lookup is not None else answer
        if stale:
            continue
        done = place.answered(leaf, item, answer) if accumulate else (item.lanes, item.blocks)
        results.append((context, item, done))
    await sink.wait_for(len(results))
    for sender in senders:
        await sender
    await ClockCycles(dut.clk, 30)
    assert [lookup_value(item) for item in asked.received] == [want for _, want in lookups]
    assert {item["epoch"] for item in asked.received} <= {epoch, 1 - epoch}
    assert retired.received == [0] * sum(item.retires for _, _, item in expected)
    assert len(sink.received) == len(results) >= bench.count(50)
    if not stall:
        least = len(items) + sum(context["null"] for context in contexts)
        assert sink.cycles[-1] - sink.cycles[0] < least, "not one item per cycle"
    for got, (context, item, want) in zip(sink.received, results, strict=True):
        assert placed_value(got) == want
        fiber = got["fiber"]
        present = sum(bit << o for o, bit in enumerate(context.present))
        assert (fiber["present"], fiber["fiber"]) == (present, context.fiber)
        ends = (fiber["end"], fiber["final"], got["last"])
        assert ends == (item.end, item.final, item.last)
