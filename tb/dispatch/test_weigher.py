"""The weigher against `entries` and `chunks`, with a memory that answers late."""

import random
from collections import Counter, deque
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.config import LANES, make_config
from loopnest_hw.descriptor import CellMode
from loopnest_hw.dispatch.weigher import WORDS, Weigher
from loopnest_hw.format import WORD_BYTES
from loopnest_hw.tokens import chunk, gather_reply, gather_request, joined
from loopnest_sim.model.join import Joined
from loopnest_sim.model.weigh import Weighed, chunks, part_weight, steps, weighed_level
from tb.dispatch.kernels import complete, inner_fields, share_fields
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source
from tb.test_pe import register

CONFIGS = {
    "tiny": make_config("tiny", pes=3),
    "shrunk": make_config("shrunk", "int8", pes=2, operands=2, rows=3),
}
NESTS = 60
BLOCKS = 30
RATE_BLOCKS = 300

Item = dict[str, Any]
Fields = dict[str, int]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", CONFIGS)
def test_weigher(simulator: str, name: str) -> None:
    """Deep queues and shallow ones."""
    run_bench(
        Weigher(CONFIGS[name]), module=__name__, simulator=simulator, parameters={"name": name}
    )


class WordMemory:
    """Answers the steps' requests after a latency, with random words that it invents."""

    def __init__(
        self, dut: Any, rng: random.Random, *, latency: int, stall: float, longest: int = 1 << 32
    ) -> None:
        self._rng = rng
        self._longest = longest
        self._edge = RisingEdge(dut.clk)
        self._latency = latency
        self._cycle = 0
        self._due: deque[tuple[int, list[int]]] = deque()
        self._source = Source(dut, "reply", gather_reply(WORDS), rng, stall)
        self.words: dict[int, int] = {}
        self.read: list[int] = []
        """Addresses, in the order of the requests."""
        self.steps = 0
        Sink(dut, "request", gather_request(WORDS), rng, stall, check=self._take)
        cocotb.start_soon(self._count())
        cocotb.start_soon(self._answer())

    def word(self, address: int) -> int:
        """Return the word at an address, invented when it is first read."""
        if address not in self.words:
            small, large = self._rng.randrange(40), self._rng.getrandbits(32)
            some = self._rng.randrange(1 << 15, 1 << 17)
            self.words[address] = self._rng.choice([*10 * [small], some, large]) % self._longest
        return self.words[address]

    def _take(self, request: Item) -> None:
        step = []
        for n, address in enumerate(request["address"]):
            if request["valid"] >> n & 1:
                assert address % WORD_BYTES == 0
                self.read.append(address)
                step.append(self.word(address))
            else:
                step.append(0)
        self.steps += 1
        self._due.append((self._cycle + self._latency, step))

    async def _count(self) -> None:
        while True:
            await self._edge
            self._cycle += 1

    async def _answer(self) -> None:
        while True:
            if self._due and self._due[0][0] <= self._cycle:
                await self._source.send(self._due.popleft()[1])
            else:
                await self._edge


def random_block(config: Any, rng: random.Random, lanes: int | None = None) -> Item:
    """Return a block with this number of lanes, or any."""
    kinds = [1 << rng.randrange(LANES), rng.randrange(1, 1 << LANES), (1 << LANES) - 1]
    kept = rng.choice(kinds)
    if lanes is not None:
        kept = sum(1 << lane for lane in rng.sample(range(LANES), lanes))
    return {
        "coordinate": rng.getrandbits(16),
        "lanes": kept,
        "mask": [rng.choice([0, kept, rng.getrandbits(16)]) for _ in range(config.operands)],
        "rank": [rng.randrange((1 << 20) - LANES) for _ in range(config.operands)],
    }


def nest_fields(config: Any, rng: random.Random) -> Fields:
    """Return the settings of a random nest."""
    fields = inner_fields(config, rng) | share_fields(rng)
    for o in range(config.operands):
        cell = f"row.0.cell.{o}"
        fields[f"{cell}.mode"] = rng.choice(list(CellMode))
        fields[f"{cell}.step"] = rng.choice([1, 1, 1, 0, 2, 1 << 31 | 1])
        fields[f"{cell}.ones"] = int(rng.random() < 0.3)
        fields[f"operand.{o}.used"] = int(rng.random() < 0.9)
        fields[f"operand.{o}.start"] = rng.choice([0, rng.getrandbits(32)])
    if rng.random() < 0.3:  # steps of four lanes
        fields |= {"row.0.cell.0.mode": CellMode.FOLLOW, "row.0.cell.0.step": 1}
        fields |= {"row.1.bypass": 0, "row.1.cell.0.mode": CellMode.SCAN, "operand.0.used": 1}
        fields |= {f"scanner.{s}.open": 0 for s in range(config.scanners)}
        fields |= {"share.rows": 1, "share.wide": 1}
    return complete(config, fields)


def nest_items(config: Any, rng: random.Random, lanes: list[int | None]) -> list[Item]:
    """Return the items of a row 0 whose blocks have these numbers of lanes."""
    child = [rng.getrandbits(32) for _ in range(config.operands)]
    items: list[Item] = [
        {"block": [random_block(config, rng, number)], "count": 1, "child": child, "last": 0}
        for number in lanes
    ]
    if not items or rng.random() < 0.3:  # the end comes alone
        block = random_block(config, rng)
        items.append({"block": [block], "count": 0, "child": child, "last": 0})
    items[-1]["last"] = 1
    return items


def expected(
    config: Any, fields: Fields, items: list[Item], memory: WordMemory
) -> tuple[list[Item], list[int]]:
    """Return the chunks and the addresses read."""
    out: list[Item] = []
    read: list[int] = []
    for item in items:
        if not item["count"]:
            out.append({"item": item, "weight": 0})
            continue
        block = item["block"][0]
        kept = Joined(
            block["coordinate"], block["lanes"], tuple(block["mask"]), tuple(block["rank"])
        )
        weighed = []
        for step, places in steps(config, fields, kept, item["child"]):
            read += [address for place in places if place is not None for address in place]
            words = [None if p is None else [memory.word(at) for at in p] for p in places]
            weighed.append((step, sum(1 if w is None else part_weight(*w) for w in words)))
        parts = [(block["lanes"], 0)]
        if fields["share.rows"]:
            parts = list(chunks(weighed, fields["share.quantum"]))
        for n, (lanes, weight) in enumerate(parts):
            last = item["last"] and n == len(parts) - 1
            part = item | {"block": [block | {"lanes": lanes}], "last": int(last)}
            out.append({"item": part, "weight": weight})
    return out, read


def without_undefined(out: Item) -> Item:
    """Return a chunk without its block if it has none."""
    item = out["item"]
    return out if item["count"] else out | {"item": item | {"block": None, "child": None}}


async def restart(dut: Any, config: Any, fields: Fields) -> None:
    """Reset with another kernel, which is constant two cycles before the first block."""
    dut.rst.value = 1
    dut.kernel.value = register(config, fields)
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)


@cocotb.test()
@cocotb.parametrize(timing=[(1, 0.0), (30, 0.0), (3, 0.4)])
async def nests(dut: Any, timing: tuple[int, float]) -> None:
    """Random nests one after the other, at several timings."""
    latency, stall = timing
    config = CONFIGS[bench.parameters["name"]]
    rng = bench.rng()
    source = Source(dut, "i", joined(config, 1), bench.rng(), stall)
    sink = Sink(dut, "o", chunk(config), bench.rng(), stall)
    memory = WordMemory(dut, bench.rng(), latency=latency, stall=stall)
    await bench.start(dut)
    levels: Counter[bool] = Counter()
    sizes: Counter[bool] = Counter()
    widths: Counter[int] = Counter()
    for _ in range(bench.count(NESTS)):
        fields = nest_fields(config, rng)
        items = nest_items(config, rng, [None] * rng.choice([0, 1, BLOCKS]))
        await restart(dut, config, fields)
        sink.received.clear()
        memory.read.clear()
        memory.words.clear()
        await source.send_all(items)
        while not sink.received or not sink.received[-1]["item"]["last"]:
            await sink.wait_for(len(sink.received) + 1)
        await ClockCycles(dut.clk, 50)
        want, read = expected(config, fields, items, memory)
        got = [without_undefined(out) for out in sink.received]
        assert got == [without_undefined(out) for out in want]
        assert memory.read == read
        level = weighed_level(config, fields)
        levels[level is not None] += 1
        widths[_width(level, fields)] += 1
        sizes[len(want) > len(items)] += 1
    seen = [counted[key] for counted in (levels, sizes) for key in (False, True)]
    assert min(*seen, *(widths[n] for n in (1, 2, 4))) >= 1, (levels, sizes, widths)


def _width(level: Weighed | None, fields: Fields) -> int:
    """Return the number of lanes in a step."""
    if fields["share.quantum"] <= 1:
        return 1
    return 4 if level is not None and level.contiguous and fields["share.wide"] else 2


@cocotb.test()
@cocotb.parametrize(lanes=[1, 2, 16], quantum=[1, 2, 0xFFFF], shared=[True, False], wide=[0, 1])
async def rates(dut: Any, lanes: int, quantum: int, shared: bool, wide: int) -> None:
    """One lane, two or four per cycle, or a block with fewer, at a latency of 100 cycles."""
    config = CONFIGS[bench.parameters["name"]]
    if config.fifo_depth < 100:
        return
    rng = bench.rng()
    source = Source(dut, "i", joined(config, 1), bench.rng())
    sink = Sink(dut, "o", chunk(config), bench.rng())
    memory = WordMemory(dut, bench.rng(), latency=100, stall=0.0, longest=1000)
    await bench.start(dut)
    fields = complete(
        config,
        {
            "share.rows": int(shared),
            "share.wide": wide,
            "share.quantum": quantum,
            "row.0.cell.0.mode": CellMode.FOLLOW,
            "row.0.cell.0.step": 1,
            "operand.0.used": 1,
            "row.1.cell.0.mode": CellMode.SCAN,
        },
    )
    await restart(dut, config, fields)
    items = nest_items(config, rng, [lanes] * RATE_BLOCKS)
    for item in items:
        item["last"] = 0
    items = [item for item in items if item["count"]]
    cocotb.start_soon(source.send_all(items))
    want, read = expected(config, fields, items, memory)
    await sink.wait_for(len(want))
    width = _width(weighed_level(config, fields), fields)
    counts = [
        -(-out["item"]["block"][0]["lanes"].bit_count() // width) if shared else 1 for out in want
    ]
    assert memory.steps == sum(counts) and memory.read == read
    taken = sink.cycles[-1] - sink.cycles[0]
    dut._log.info("%d cycles for %d steps, first one in %d", taken, sum(counts), sink.cycles[0])
    assert taken == sum(counts[1:])
