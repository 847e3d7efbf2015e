"""`Scanner` on a line pool of its own, against the golden scan."""

import random
from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LINE_BYTES, ChipConfig, make_config
from loopnest_hw.format import BLOCK_COORDINATE_BITS, OPEN_STRIDE, PACKED_STRIDE
from loopnest_hw.stream.bank import StreamBank, equal_rings
from loopnest_hw.tokens import BOUND_BITS, FIBER_BLOCKS, FIBER_REQUEST
from loopnest_sim.model.scanner import scan
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.levels import place_level
from tb.stream.memory import LineMemory
from tb.streams import Sink, Source, decode

IMAGE_LINES = 1024

INFINITE = 1 << BLOCK_COORDINATE_BITS
"""A bound above all coordinates."""

faults: list[int] = []
"""What the runs have found, as `tokens.LEVEL_FAULT`."""

POOL_LINES = 64


def configuration(depth: int) -> ChipConfig:
    """Return a configuration with queues of this depth."""
    return make_config(fifo_depth=depth, stream_depth=depth, pool_lines=POOL_LINES)


async def run_fibers(
    dut: Any,
    lengths: list[int],
    positions: list[int | None],
    *,
    stride: int,
    source_stall: float = 0.0,
    sink_stall: float = 0.0,
    size: int = 1 << COORDINATE_BITS,
    sound: bool = False,
    spoil: Callable[[NDArray[np.uint32]], None] = lambda words: None,
    **memory_options: Any,
) -> list[int]:
    """Scan fibers of a random level and compare with the golden scan; return the items' cycles."""
    rng = bench.rng()
    config = configuration(bench.parameters["depth"])
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    level, end = place_level(image, rng.randrange(5), lengths, stride, rng, sound=sound)
    spoil(image[level.blocks :].view("<u4"))
    assert end <= IMAGE_LINES
    source = Source(dut, "scan__0__i", FIBER_REQUEST, rng, stall=source_stall)
    sink = Sink(dut, "scan__0__o", FIBER_BLOCKS, rng, stall=sink_stall)
    LineMemory(dut, config, image, rng, **memory_options)
    await bench.start(dut)
    for n, (base, last) in enumerate(equal_rings(2, POOL_LINES)):
        getattr(dut, f"ring__{n}").value = base | last << config.pool_bits
    dut.scan__0__open.value = int(stride == OPEN_STRIDE)
    dut.scan__0__table.value = level.table + rng.randrange(LINE_BYTES)
    dut.scan__0__blocks.value = level.blocks + rng.randrange(LINE_BYTES)
    await ClockCycles(dut.clk, 1)
    requests = [
        {"position": rng.getrandbits(32), "empty": 1}
        if position is None
        else {"position": position, "empty": 0}
        for position in positions
    ]
    cocotb.start_soon(source.send_all(requests))
    dut.scan__0__size.value = size
    expected, fault = scan(
        image, positions, table=level.table, stride=stride, blocks=level.blocks, size=size
    )
    received = await sink.wait_for(len(expected), idle=2000)
    assert received == expected
    assert sum(item["last"] for item in received) == len(positions)
    await ClockCycles(dut.clk, 100)
    assert len(sink.received) == len(expected)
    found = int(dut.scan__0__fault.value)
    assert found == fault["tensor"] | fault["coordinate"] << 1
    faults.append(found)
    assert not int(dut.error.value)
    return sink.cycles


def some_lengths(count: int, rng: random.Random) -> list[int]:
    """Return lengths from empty to several lines."""
    return [rng.choice([0, 0, 1, 1, 2, 2, 3, 4, 5, 8, 9, 30]) for _ in range(count)]


@cocotb.test()
@cocotb.parametrize(
    stride=[PACKED_STRIDE, OPEN_STRIDE],
    timing=[(1, 0, 0.0), (4, 20, 0.0), (100, 60, 0.0), (1, 9, 0.4), (4, 0, 0.4)],
)
async def fibers(dut: Any, stride: int, timing: tuple[int, int, float]) -> None:
    """Fibers of all lengths in any order, with empty requests between, at every timing."""
    rng = bench.rng()
    latency, spread, stall = timing
    lengths = some_lengths(50, rng)
    positions = [rng.choice([None, *range(50), *range(50)]) for _ in range(60)]
    await run_fibers(
        dut,
        lengths,
        positions,
        stride=stride,
        latency=latency,
        spread=spread,
        stall=stall,
        source_stall=stall,
        sink_stall=stall,
    )


@cocotb.test()
async def tables_that_run_backwards(dut: Any) -> None:
    """A fiber whose end is before its start is empty, and reported."""
    rng = bench.rng()
    lengths = [rng.choice([-1, -100, 0, 1, 3]) for _ in range(30)]
    await run_fibers(dut, [*lengths, -1], [*range(31)], stride=OPEN_STRIDE, latency=3, spread=4)


@cocotb.test()
@cocotb.parametrize(case=[*range(24)])
async def words_that_contradict_themselves(dut: Any, case: int) -> None:
    """A sound level, one with a word spoilt, and one with a coordinate too many."""
    lengths = [3, 1, 4, 2, 7, 3]
    end = 20 + sum(lengths)  # of the words: they begin at any of the first 20
    rng = random.Random(case)
    at = rng.randrange(20, 31)
    amount, kept = rng.choice([(0, 0xFFFF0000), (-5 << 16, ~0), (7 << 16, ~0)])

    def spoil(words: NDArray[np.uint32]) -> None:
        words[at] = (int(words[at]) + amount) & kept & 0xFFFFFFFF

    changes: dict[str, Any] = {}
    if case % 3 == 1:
        changes["spoil"] = spoil
    if case % 3 == 2:
        block = rng.choice([0, 5 * at, 5 * end])
        changes["size"] = 16 * block + rng.choice([0, 1, 8, 15, 16])
    options = {"stride": PACKED_STRIDE, "latency": 3, "sound": True}
    await run_fibers(dut, lengths, [*range(6)], **options, **changes)
    assert case % 3 or not faults[-1]
    if case == 23:
        assert set(faults) >= {0, 1, 2}


@cocotb.test()
async def long_fibers(dut: Any) -> None:
    """Two words a cycle, and no bubble between fibers, where the queues are deep."""
    if bench.parameters["depth"] == 1:
        return
    lengths = [201, 100, 301, 64]
    cycles = await run_fibers(dut, lengths, [*range(4)], stride=PACKED_STRIDE, latency=4)
    rate = sum(lengths) / (cycles[-1] - cycles[0] + 1)
    dut._log.info("%.3f words a cycle, the first in cycle %d", rate, cycles[0])
    assert rate >= 1.9


class Partner:
    """Bounds of a fiber that is intersected with another one, as a joiner gives them.

    ``wanted[f]`` are the other fiber's coordinates, for the f-th fiber. What is known of them comes
    late at times.
    """

    def __init__(self, dut: Any, wanted: list[list[int]], patience: float) -> None:
        self._dut = dut
        self._wanted = wanted
        self._patience = patience
        self._rng = bench.rng()
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut, rng = self._dut, self._rng
        fiber = 0
        done = -1  # the last coordinate that has left
        head = following = 0
        while True:
            await ReadOnly()
            valid, ready = int(dut.scan__0__o__valid.value), int(dut.scan__0__o__ready.value)
            item = decode(FIBER_BLOCKS, int(dut.scan__0__o__payload.value))
            last = valid and item["last"]
            left = [c for c in self._wanted[fiber] if c > done] if fiber < len(self._wanted) else []
            left = [*left, INFINITE, INFINITE]
            if last:
                head = following = 0
            elif rng.random() < self._patience:
                head, following = left[0], left[rng.choice([0, 1, 1, 1])]
            if valid and ready:
                if item["count"]:
                    done = item["word"][item["count"] - 1]["coordinate"]
                if last:
                    fiber, done = fiber + 1, -1
            await RisingEdge(dut.clk)
            dut.scan__0__bound.value = head | following << BOUND_BITS


async def run_bounded(
    dut: Any,
    lengths: list[int],
    share: float,
    *,
    patience: float = 1.0,
    stall: float = 0.0,
    latency: int = 4,
) -> tuple[int, int]:
    """Intersect fibers with others; return the words handed on, and the cycles from the first one.

    Each fiber is scanned, and each of its words is wanted with probability ``share``.
    """
    rng = bench.rng()
    config = configuration(bench.parameters["depth"])
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    level, _ = place_level(image, 0, lengths, PACKED_STRIDE, rng, sound=True)
    settings = {"table": level.table, "stride": PACKED_STRIDE, "blocks": level.blocks}
    words: list[list[tuple[int, int, int]]] = []
    for position in range(len(lengths)):
        items, _ = scan(image, [position], **settings)
        words.append(
            [
                (item["word"][n]["coordinate"], item["word"][n]["mask"], item["rank"][n])
                for item in items
                for n in range(item["count"])
            ]
        )
    # The others have coordinates of their own too.
    wanted = [
        [c + rng.choice([0, 0, 0, 1]) for c, _, _ in fiber if rng.random() < share]
        for fiber in words
    ]
    source = Source(dut, "scan__0__i", FIBER_REQUEST, rng, stall=stall)
    sink = Sink(dut, "scan__0__o", FIBER_BLOCKS, rng, stall=stall)
    LineMemory(dut, config, image, rng, latency=latency)
    await bench.start(dut)
    for n, (base, last) in enumerate(equal_rings(2, POOL_LINES)):
        getattr(dut, f"ring__{n}").value = base | last << config.pool_bits
    dut.scan__0__open.value = 0
    dut.scan__0__table.value = level.table
    dut.scan__0__blocks.value = level.blocks
    dut.scan__0__size.value = 1 << COORDINATE_BITS
    await ClockCycles(dut.clk, 2)
    Partner(dut, wanted, patience)
    requests = [{"position": n, "empty": 0} for n in range(len(lengths))]
    cocotb.start_soon(source.send_all(requests))
    seen = 0
    for fiber, mine in enumerate(words):
        got: list[tuple[int, int, int]] = []
        ended = False
        while not ended:
            await sink.wait_for(seen + 1, idle=2000)
            item = sink.received[seen]
            seen += 1
            ended = bool(item["last"])
            assert item["count"] or ended
            got += [
                (item["word"][n]["coordinate"], item["word"][n]["mask"], item["rank"][n])
                for n in range(item["count"])
            ]
        wrong = [word for word in got if word not in mine]
        assert not wrong and got == sorted(got), f"fiber {fiber}: {wrong} of {got}"
        missing = set(mine) - set(got)
        assert not {c for c, _, _ in missing} & set(wanted[fiber])
    await ClockCycles(dut.clk, 100)
    assert len(sink.received) == seen
    assert not int(dut.scan__0__fault.value)
    assert not int(dut.error.value)
    handed_on = sum(item["count"] for item in sink.received)
    return handed_on, sink.cycles[-1] - sink.cycles[0]


@cocotb.test()
@cocotb.parametrize(
    share=[0.0, 0.02, 0.3, 1.0], timing=[(1.0, 0.0, 4), (0.5, 0.0, 1), (0.9, 0.4, 30)]
)
async def unwanted_words(dut: Any, share: float, timing: tuple[float, float, int]) -> None:
    """Fibers of all lengths where some words are wanted, and the rest may be left out."""
    rng = bench.rng()
    patience, stall, latency = timing
    lengths = [rng.choice([0, 1, 2, 3, 7, 8, 9, 16, 60, 200]) for _ in range(40)]
    handed_on, _ = await run_bounded(
        dut, lengths, share, patience=patience, stall=stall, latency=latency
    )
    assert share == 1.0 or handed_on < sum(lengths)


@cocotb.test()
async def lines_of_unwanted_words(dut: Any) -> None:
    """A line a cycle, and two more cycles where a word is wanted."""
    if bench.parameters["depth"] == 1:
        return
    words = 4000
    handed_on, cycles = await run_bounded(dut, [words], 0.003)
    dut._log.info("%d words in %d cycles, %d handed on", words, cycles, handed_on)
    assert handed_on < 100
    assert cycles < words / 8 + 40


@cocotb.test()
@cocotb.parametrize(length=[0, 1, 2])
async def short_fibers(dut: Any, length: int) -> None:
    """A fiber a cycle where each has up to two words, where the queues are deep."""
    if bench.parameters["depth"] == 1:
        return
    cycles = await run_fibers(dut, [length] * 400, [*range(400)], stride=PACKED_STRIDE, latency=4)
    rate = 400 / (cycles[-1] - cycles[0] + 1)
    dut._log.info("%.3f fibers of %d words a cycle", rate, length)
    assert rate >= 0.9


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", [64, 1])
def test_scanner(simulator: str, depth: int) -> None:
    """With deep queues and with the shallowest ones."""
    bank = StreamBank(configuration(depth), scanners=1, values=0, epilogue=False, lines=POOL_LINES)
    run_bench(
        bank,
        module=__name__,
        simulator=simulator,
        parameters={"depth": depth},
    )
