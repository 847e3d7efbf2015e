"""The whole leaf, against the golden functions of its units in sequence.

Its neighbours are an accumulator with random answers, and a memory with a value at every address.
"""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.descriptor import LeafMode, Op
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.leaf.leaf import Leaf
from loopnest_hw.tokens import (
    PAIR,
    StageState,
    found,
    gather_reply,
    gather_request,
    joined,
    lookup,
    terms,
    token,
)
from loopnest_sim.model import place
from loopnest_sim.model.address import Values, address
from loopnest_sim.model.arith import wide_type
from loopnest_sim.model.dot import dot
from loopnest_sim.model.form import form
from loopnest_sim.model.join import Joined
from loopnest_sim.model.lanes import lanes
from loopnest_sim.model.scatter import scatter
from tb.harness import bench, run_bench, runs
from tb.leaf.test_lanes import random_value
from tb.leaf.test_placer import (
    item_value,
    kernel_bits,
    lookup_value,
    random_groups,
    random_leaf,
    random_token,
)
from tb.row.test_expander import token_value
from tb.streams import Sink, Source, decode, encode

FIBERS = 30

Term = tuple[int, int, int, int]
"""Lane and place of a term, whether it is the first one there, and its value."""


@dataclass
class Setting:
    """The leaf's settings, and the memory's contents."""

    leaf: place.Leaf
    values: list[Values]
    negate: list[bool]
    op1: Op
    op2: Op
    memory: list[int]

    def word(self, at: int) -> int:
        """Return the 32 bits from a byte address on: arbitrary, but always the same."""
        return self.memory[(at * 0x9E3779B1 >> 7) % len(self.memory)]

    def kernel(self, config: ChipConfig) -> int:
        """Return the bits of the kernel's settings."""
        operands = [
            {"used": v.used, "wide": v.size == 4, "values": v.address, "negate": n}
            for v, n in zip(self.values, self.negate, strict=True)
        ]
        layout = kernel_layout(config)
        fields = decode(layout, kernel_bits(self.leaf))
        fields |= {"op1": int(self.op1), "op2": int(self.op2), "operand": operands}
        return encode(layout, fields)


def random_setting(config: ChipConfig, rng: random.Random, mode: int, accumulate: int) -> Setting:
    """Return a setting in which the first operand is used."""
    sizes = [config.dtype.narrow_bytes, 4]
    return Setting(
        leaf=random_leaf(rng, LeafMode(mode), bool(accumulate)),
        values=[
            Values(o == 0 or rng.random() < 0.8, rng.getrandbits(27) << 5, rng.choice(sizes))
            for o in range(config.operands)
        ],
        negate=[rng.random() < 0.3 for _ in range(config.operands)],
        op1=rng.choice(list(Op)),
        op2=rng.choice(list(Op)),
        memory=[random_value(rng, config.dtype) for _ in range(499)],
    )


@dataclass
class Step:
    """A step: the destinations of its lanes, and the raw value and presence of each lane's
    operands.
    """

    where: list[tuple[int, int, int]]
    raw: list[list[int]]
    present: list[list[bool]]


@dataclass
class LeafFiber:
    """The steps of a leaf fiber; whether a result fiber ends with it."""

    steps: list[Step]
    fiber: int
    end: bool
    final: bool


def steps_of(
    config: ChipConfig, setting: Setting, items: list[Any], present: tuple[bool, ...]
) -> list[Step]:
    """Cut a leaf fiber's items, as lanes and blocks, into steps, and read their values."""
    leaf = setting.leaf
    work = [entry for lanes_, blocks in items for entry in zip(lanes_, blocks, strict=True)]
    work = [(lanes_, block) for lanes_, block in work if lanes_]
    cut = form(
        [lanes_ for lanes_, _ in work],
        config.multipliers,
        skews=[block.index for _, block in work] if leaf.mode is LeafMode.AXPY else None,
        single=leaf.mode is LeafMode.SCATTER,
    )
    steps = []
    for taken in cut:
        numbers = sorted({n for n, _ in taken})
        found_lanes = address(
            [work[n][1] for n in numbers],
            [sum(1 << lane for k, lane in taken if k == n) for n in numbers],
            present,
            leaf.cells,
            setting.values,
            one_key=leaf.mode is not LeafMode.AXPY,
        )
        steps.append(
            Step(
                [(lane.index, lane.place, int(lane.first)) for lane in found_lanes],
                [[0 if at is None else setting.word(at) for at in f.address] for f in found_lanes],
                [[at is not None for at in lane.address] for lane in found_lanes],
            )
        )
    return steps


def compute(
    config: ChipConfig, setting: Setting, fibers: list[LeafFiber]
) -> tuple[list[tuple[list[Term], tuple[int, bool] | None]], bool]:
    """Return each fiber's terms, and its position and ``final`` where it ends; and the overflow."""
    m, operands = config.multipliers, config.operands
    steps = [step for fiber in fibers for step in fiber.steps]
    raw = np.zeros((len(steps), m, operands), np.uint32)
    present = np.zeros(raw.shape, np.bool_)
    valid = np.zeros((len(steps), m), np.bool_)
    for n, step in enumerate(steps):
        count = len(step.where)
        valid[n, :count] = True
        if count:
            raw[n, :count], present[n, :count] = step.raw, step.present
    x, overflow = lanes(
        raw,
        present,
        valid,
        op1=setting.op1,
        op2=setting.op2,
        wide=[v.size == 4 for v in setting.values],
        negated=setting.negate,
        fmt=config.dtype,
    )
    last = np.zeros(len(steps), np.bool_)
    last[np.cumsum([len(fiber.steps) for fiber in fibers]) - 1] = True
    sums, some, wraps = dot(x.astype(wide_type(config.dtype)), valid, last, config.dtype)
    is_dot = setting.leaf.mode is LeafMode.DOT
    results: list[tuple[list[Term], tuple[int, bool] | None]] = []
    bits, sum_bits = x.view(np.uint32), sums.view(np.uint32)
    at = 0
    for n, fiber in enumerate(fibers):
        found_terms: list[Term] = []
        for step in fiber.steps:
            values = bits[at, : len(step.where)].tolist()
            at += 1
            if not is_dot:
                found_terms += [(*w, v) for w, v in zip(step.where, values, strict=True)]
        if is_dot and some[n]:
            found_terms.append((*fiber.steps[-1].where[0], int(sum_bits[n])))
        results.append((found_terms, (fiber.fiber, fiber.final) if fiber.end else None))
    return results, overflow or (is_dot and wraps)


def seen(items: list[dict[str, Any]]) -> list[tuple[list[Term], tuple[int, bool] | None]]:
    """Return the received terms, result fiber by result fiber."""
    results: list[Any] = [([], None)]
    for item in items:
        for n in range(len(item["value"])):
            if item["valid"] >> n & 1:
                first = item["first"] >> n & 1
                term = (item["index"][n], item["place"][n], first, item["value"][n])
                results[-1][0].append(term)
        if item["end"]:
            results[-1] = (results[-1][0], (item["fiber"], bool(item["final"])))
            results.append(([], None))
    return results


def joined_to_ends(results: list[Any]) -> list[Any]:
    """Merge the leaf fibers of a result fiber."""
    together: list[Any] = [([], None)]
    for found_terms, end in results:
        together[-1] = (together[-1][0] + found_terms, end)
        if end is not None:
            together.append(([], None))
    return together


class Watch:
    """Sums the leaf's counts of its steps, and records its states.

    ``quiet``: cycles since its last activity.
    """

    def __init__(self, dut: Any) -> None:
        self.multiplies = 0
        self.steps = 0
        self.quiet = 0
        self.states: set[int] = set()
        cocotb.start_soon(self._count(dut))

    async def _count(self, dut: Any) -> None:
        while True:
            await RisingEdge(dut.clk)
            self.multiplies += int(dut.multiplies.value)
            self.steps += int(dut.leaf_step.value)
            state = int(dut.state.value)
            self.states.add(state)
            self.quiet = self.quiet + 1 if state == StageState.IDLE.value else 0


def serve_values(dut: Any, config: ChipConfig, setting: Setting, stall: float) -> None:
    """Answer each operand's value stream, in order and a few cycles late."""

    async def serve(o: int) -> None:
        rng = bench.rng()
        m = config.multipliers
        sink = Sink(dut, f"request__{o}", gather_request(m), rng, stall)
        source = Source(dut, f"reply__{o}", gather_reply(m), rng, stall)
        waiting: deque[dict[str, Any]] = deque()
        taken = 0
        while True:
            waiting += sink.received[taken:]
            taken = len(sink.received)
            if waiting:
                asked = waiting.popleft()
                value = [
                    setting.word(at) if asked["valid"] >> n & 1 else 0
                    for n, at in enumerate(asked["address"])
                ]
                await source.send(value)
            else:
                await RisingEdge(dut.clk)

    for o in range(config.operands):
        cocotb.start_soon(serve(o))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(mode=[0, 1, 2], accumulate=[0, 1], stall=[0.0, 0.4])
async def random_fibers(dut: Any, mode: int, accumulate: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    config = make_config(**bench.parameters["config"])
    operands = range(config.operands)
    setting = random_setting(config, rng, mode, accumulate)
    leaf = setting.leaf
    dut.kernel.value = setting.kernel(config)
    epoch = rng.getrandbits(1)
    dut.epoch.value = epoch

    items: list[dict[str, Any]] = []
    contexts: list[dict[str, Any]] = []
    lookups: list[place.Lookup] = []
    replies: list[dict[str, Any]] = []
    fibers: list[LeafFiber] = []
    retires = 0
    dropped = False
    placer = place.Placer(leaf)
    for number in range(FIBERS):
        # Stale items come first.
        stale = bool(accumulate) and number < 6
        if number == 6:
            placer = place.Placer(leaf)
        context = random_token(rng)
        groups = random_groups(rng, LeafMode.AXPY)
        child = [rng.getrandbits(32) for _ in operands]
        contexts.append(token_value(context) | {"epoch": epoch ^ stale})
        if not context.null:
            items += [item_value(g, child, k == len(groups) - 1) for k, g in enumerate(groups)]
        if leaf.mode is LeafMode.SCATTER:
            groups = [one for group in groups for one in scattered(group)] or [[]]
        results = []
        placed = placer.place(context, groups, child, stale=stale)
        answer: list[place.Found] = []
        for item in placed:
            retires += item.retires
            if item.lookup is not None:
                lookups.append(item.lookup)
                answer = [random_answer(rng, config) for _ in range(PAIR)]
                replies.append(reply_value(answer, stale))
            lanes_, blocks = (item.lanes, item.blocks)
            if accumulate:
                lanes_, blocks = place.answered(leaf, item, answer)
            dropped |= lanes_ != item.lanes
            results.append((lanes_, blocks))
        if placed and not stale:
            steps = steps_of(config, setting, results, context.present)
            fibers.append(LeafFiber(steps, context.fiber, placed[-1].end, placed[-1].final))

    expected, overflow = compute(config, setting, fibers)
    wanted = joined_to_ends(expected)
    blocks_in = Source(dut, "i", joined(config, PAIR), bench.rng(), stall)
    contexts_in = Source(dut, "context", token(config), bench.rng(), stall)
    replies_in = Source(dut, "found", found(config), bench.rng())
    asked = Sink(dut, "lookup", lookup(config), bench.rng(), stall)
    retired = Sink(dut, "retired", 1, bench.rng(), stall)
    sink = Sink(dut, "o", terms(config), bench.rng(), stall)
    watch = Watch(dut)
    serve_values(dut, config, setting, stall)

    async def reply() -> None:
        for n, value in enumerate(replies):
            await asked.wait_for(n + 1)
            await replies_in.send(value)

    senders = [
        cocotb.start_soon(reply()),
        cocotb.start_soon(blocks_in.send_all(items)),
        cocotb.start_soon(contexts_in.send_all(contexts)),
    ]
    for sender in senders:
        await sender
    while watch.quiet < 100:
        await ClockCycles(dut.clk, 10)
    assert [lookup_value(item) for item in asked.received] == lookups
    assert retired.received == [0] * retires
    got = seen(sink.received)
    assert got == wanted, first_difference(got, wanted)
    assert len(fibers) >= FIBERS // 3
    assert bool(int(dut.overflow.value)) == overflow
    work = [len(step.where) for fiber in fibers for step in fiber.steps]
    assert watch.multiplies == sum(work) > 0
    if not dropped:
        assert watch.steps == sum(count > 0 for count in work)
    assert watch.states >= {StageState.IDLE.value, StageState.BUSY.value}


def scattered(group: list[Joined]) -> list[list[Joined]]:
    """Return a group's lanes, each as a group of its own."""
    return [
        [Joined(group[n].coordinate, lane, group[n].mask, group[n].rank)]
        for n, lane in scatter([block.lanes for block in group])
    ]


def random_answer(rng: random.Random, config: ChipConfig) -> place.Found:
    """Return an accumulator's answer for a block."""
    return place.Found(rng.random() < 0.8, rng.randrange(config.slots), rng.getrandbits(16))


def reply_value(answer: list[place.Found], stale: bool) -> dict[str, Any]:
    """Return the answer for two blocks as a stream item."""
    return {
        "keep": sum(f.keep << n for n, f in enumerate(answer)),
        "slot": [f.slot for f in answer],
        "first": [f.first for f in answer],
        "stale": stale,
    }


def first_difference(got: list[Any], want: list[Any]) -> str:
    """Return the first difference between two lists of result fibers."""
    for n, (one, other) in enumerate(zip(got, want, strict=False)):
        if one != other:
            return f"result fiber {n}: {one} for {other}"
    return f"{len(got)} result fibers for {len(want)}"


@pytest.mark.parametrize(
    ("simulator", "dtype", "multipliers"),
    runs([("int8", 2), ("bf16", 1)], icarus=[("int8", 2)]),
)
def test_leaf(simulator: str, dtype: str, multipliers: int) -> None:
    """Both formats, with short queues."""
    config: dict[str, Any] = {
        "preset": "tiny",
        "dtype": dtype,
        "multipliers": multipliers,
        "fifo_depth": 4,
        "stream_depth": 4,
    }
    run_bench(
        Leaf(make_config(**config)),
        module=__name__,
        simulator=simulator,
        parameters={"config": config},
    )
