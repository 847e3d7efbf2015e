"""The joiner against `join`: random fibers, tables and presence, and its rates."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from loopnest_hw.config import make_config
from loopnest_hw.row.joiner import Joiner
from loopnest_hw.tokens import AHEAD, BOUND, FIBER_BLOCKS, joined
from loopnest_sim.model.join import Word, join
from tb.formal import prove_stream_law
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, decode, encode

CONFIG = make_config("tiny")
OPERANDS = CONFIG.operands


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("pair", [1, 2])
def test_joiner(simulator: str, pair: int) -> None:
    run_bench(Joiner(CONFIG, pair), module=__name__, simulator=simulator, parameters={"pair": pair})


def test_stream_law() -> None:
    prove_stream_law(
        Joiner(CONFIG, 2), outputs=["o"], inputs_assumed=["i__0", "i__1", "i__2", "context"]
    )


def random_fiber(rng: random.Random, reach: int, most: int) -> list[Word]:
    """Return up to ``most`` words with block coordinates below ``reach``."""
    words = []
    rank = 0
    for coordinate in sorted(rng.sample(range(reach), rng.randint(0, min(most, reach)))):
        mask = rng.choice([1 << rng.randrange(16), rng.randrange(1, 1 << 16), (1 << 16) - 1])
        words.append(Word(coordinate, mask, rank))
        rank += mask.bit_count()
    return words


class Scanner:
    """Sends fibers like a scanner, and skips blocks below the joiner's bound.

    ``fibers`` are the words of each fiber and its child. Some of the words that may be skipped are.
    """

    def __init__(self, dut: Any, operand: int, stall: float) -> None:
        self._dut = dut
        self._name = f"i__{operand}"
        self._bound = getattr(dut, f"bound__{operand}")
        self._ahead = getattr(dut, f"ahead__{operand}")
        self._rng = bench.rng()
        self._stall = stall
        self._fibers: list[tuple[list[Word], int]] = []
        self._left: list[Word] | None = None
        self._reach = -1
        self.left_out = 0

    def _next(self, bound: dict[str, int]) -> dict[str, Any] | None:
        """Return the next item of the fiber, from the words that the bound leaves."""
        if self._left is None:
            if not self._fibers:
                return None
            self._left, self._child = self._fibers.pop(0)
        limit = bound["next"] if self._reach >= bound["head"] else bound["head"]
        while self._left and self._left[0].coordinate < limit and self._rng.random() < 0.8:
            self._left.pop(0)
            self.left_out += 1
        pair, self._left = self._left[:2], self._left[2:]
        if pair:
            self._reach = pair[-1].coordinate
        padded = pair + [Word(0, 0, 0)] * (2 - len(pair))
        item = {
            "word": [{"coordinate": w.coordinate, "mask": w.mask} for w in padded],
            "rank": [w.rank for w in padded],
            "count": len(pair),
            "child": self._child,
            "last": not self._left,
        }
        if not self._left:
            self._left, self._reach = None, -1
        return item

    async def send(self, fibers: list[tuple[list[Word], int]]) -> None:
        self._fibers = list(fibers)
        valid, ready, payload = (
            getattr(self._dut, f"{self._name}__{part}") for part in ("valid", "ready", "payload")
        )
        here: list[dict[str, Any]] = []  # at the port, and behind
        while self._fibers or self._left is not None or here:
            await ReadOnly()
            taken = int(valid.value) and int(ready.value)
            bound = decode(BOUND, int(self._bound.value))
            if any(item["last"] for item in here):
                bound = {"head": 0, "next": 0}  # it is not the next item's
            await RisingEdge(self._dut.clk)
            if taken:
                here.pop(0)
            if len(here) < 2 and self._rng.random() >= self._stall:
                item = self._next(bound)
                here += [item] if item else []
            valid.value = bool(here)
            payload.value = encode(FIBER_BLOCKS, here[0]) if here else 0
            known = len(here) == 2 and here[1]["count"] and not here[0]["last"]
            ahead = {"valid": 1, "coordinate": here[1]["word"][0]["coordinate"]} if known else {}
            self._ahead.value = encode(AHEAD, ahead)


class Checker:
    """Drives fibers, and compares the outputs with `join`."""

    def __init__(self, dut: Any, *, joins: int, block_table: int, lane_table: int, stall: float):
        self.clock = dut.clk
        self.pair = bench.parameters["pair"]
        self.joins = [bool(joins >> o & 1) for o in range(OPERANDS)]
        self.tables = block_table, lane_table
        dut.join.value = joins
        dut.block_table.value = block_table
        dut.lane_table.value = lane_table
        self.scanners = [Scanner(dut, o, stall) for o in range(OPERANDS)]
        self.context = Source(dut, "context", OPERANDS, bench.rng(), stall)
        self.sink = Sink(dut, "o", joined(CONFIG, self.pair), bench.rng(), stall)

    async def run(self, cases: list[tuple[list[list[Word]], list[bool]]]) -> None:
        expected: list[tuple[Any, ...]] = []
        streams: list[list[Any]] = [[] for _ in range(OPERANDS)]
        for number, (fibers, present) in enumerate(cases):
            for o in range(OPERANDS):
                if self.joins[o]:
                    streams[o].append((fibers[o], 1000 * number + o))
            blocks = join(fibers, present, self.joins, *self.tables)
            expected += [(b, number, k == len(blocks) - 1) for k, b in enumerate(blocks)]
            if not blocks:
                expected.append((None, number, True))
        tasks = [
            cocotb.start_soon(scanner.send(stream))
            for scanner, stream in zip(self.scanners, streams, strict=True)
        ]
        present_bits = [sum(bit << o for o, bit in enumerate(p)) for _, p in cases]
        tasks.append(cocotb.start_soon(self.context.send_all(present_bits)))
        got: list[tuple[Any, ...]] = []
        seen = 0
        while len(got) < len(expected):
            await self.sink.wait_for(seen + 1)
            item = self.sink.received[seen]
            seen += 1
            self._take(item, got)
        for task in tasks:
            await task
        await ClockCycles(self.clock, 20)
        assert len(self.sink.received) == seen, "more items than expected"
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            block, fiber, last = other
            assert one[2] == last, f"item {number}: last"
            assert (one[0] is None) == (block is None), f"item {number}: {one} for {other}"
            if block is None:
                continue
            mine = one[0]
            assert (mine["coordinate"], mine["lanes"]) == (block.coordinate, block.lanes)
            for o in range(OPERANDS):
                if self.joins[o]:
                    assert (mine["mask"][o], mine["rank"][o]) == (block.mask[o], block.rank[o])
                    if block.mask[o]:
                        assert one[1][o] == 1000 * fiber + o, f"item {number}: child"
        assert len(expected) >= len(cases)

    def _take(self, item: dict[str, Any], got: list[tuple[Any, ...]]) -> None:
        for k in range(item["count"]):
            last = bool(item["last"]) and k == item["count"] - 1
            got.append((item["block"][k], item["child"], last))
        if item["count"] == 0:
            assert item["last"], "an item without blocks that is not last"
            got.append((None, item["child"], True))


def table(rng: random.Random, joins: int) -> int:
    """Return the table of a random monotone expression that needs one of the joining operands."""
    chosen = rng.randrange(4)
    result = 0
    for pattern in range(8):
        bits = [pattern >> o & 1 for o in range(3)]
        value = [
            all(bits),
            any(bits),
            bits[0] and (bits[1] or bits[2]),
            bits[2] or (bits[0] and bits[1]),
        ][chosen]
        result |= int(bool(value) and pattern & joins != 0) << pattern
    return result


@cocotb.test()
@cocotb.parametrize(joins=[0b001, 0b010, 0b011, 0b101, 0b110, 0b111], stall=[0.0, 0.4])
async def random_fibers(dut: Any, joins: int, stall: float) -> None:
    await bench.start(dut)
    rng = bench.rng()
    tables = table(rng, joins)
    # lanes of no fiber are dropped, whatever their patterns
    lanes = tables | sum(rng.getrandbits(1) << p for p in range(8) if not p & joins)
    checker = Checker(dut, joins=joins, block_table=tables, lane_table=lanes, stall=stall)
    cases = []
    for _ in range(40):
        present = [rng.random() < 0.8 for _ in range(OPERANDS)]
        fibers = [random_fiber(rng, rng.choice([4, 8, 40]), 8) for _ in range(OPERANDS)]
        cases.append(([f if p else [] for f, p in zip(fibers, present, strict=True)], present))
    await checker.run(cases)


@cocotb.test()
@cocotb.parametrize(joins=[0b001, 0b011])
async def rate(dut: Any, joins: int) -> None:
    """One block per cycle if fibers are merged, two if there is only one and pairs may pass."""
    await bench.start(dut)
    tables = {0b001: 0b10101010, 0b011: 0b10001000}[joins]
    checker = Checker(dut, joins=joins, block_table=tables, lane_table=tables, stall=0.0)
    words = [Word(c, 1, c) for c in range(40)]
    cycles = 0

    async def count() -> None:
        nonlocal cycles
        while True:
            await RisingEdge(dut.clk)
            cycles += 1

    counter = cocotb.start_soon(count())
    await checker.run([([words, words, []], [True, True, False])] * 5)
    counter.cancel()
    alone = joins == 0b001 and bench.parameters["pair"] == 2
    assert cycles <= 200 // (2 if alone else 1) + 40, f"{cycles} cycles"


@cocotb.test()
@cocotb.parametrize(operands=[0b011, 0b110, 0b111], stall=[0.0, 0.4])
async def blocks_that_cannot_match(dut: Any, operands: int, stall: float) -> None:
    """When long fibers are intersected with short ones, scanners may skip most blocks."""
    await bench.start(dut)
    rng = bench.rng()
    table = sum(1 << pattern for pattern in range(8) if pattern & operands == operands)
    checker = Checker(dut, joins=operands, block_table=table, lane_table=table, stall=stall)
    cases = []
    for _ in range(10):
        fibers = [random_fiber(rng, 200, rng.choice([2, 5, 200])) for _ in range(OPERANDS)]
        present = [bool(operands >> o & 1) and rng.random() < 0.9 for o in range(OPERANDS)]
        cases.append(([f if p else [] for f, p in zip(fibers, present, strict=True)], present))
    await checker.run(cases)
    blocks = sum(len(fiber) for fibers, _ in cases for fiber in fibers)
    left_out = sum(scanner.left_out for scanner in checker.scanners)
    dut._log.info("%d of %d blocks left out", left_out, blocks)
    assert left_out > blocks / 5
