"""`Scanner` on a line pool of its own, against the golden scan."""

import random
from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LINE_BYTES, ChipConfig, make_config
from loopnest_hw.format import OPEN_STRIDE, PACKED_STRIDE
from loopnest_hw.stream.bank import StreamBank, equal_rings
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST
from loopnest_sim.model.scanner import scan
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.bounds import check_bounded
from tb.stream.levels import place_level
from tb.stream.memory import LineMemory
from tb.streams import Sink, Source

IMAGE_LINES = 2048

faults: list[int] = []
"""The faults of the runs, as `tokens.LEVEL_FAULT`."""

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
    corrupt: Callable[[NDArray[np.uint32]], None] = lambda words: None,
    **memory_options: Any,
) -> list[int]:
    """Scan fibers of a random level and compare with the golden scan; return the items' cycles."""
    rng = bench.rng()
    config = configuration(bench.parameters["depth"])
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    level, end = place_level(image, rng.randrange(5), lengths, stride, rng, sound=sound)
    corrupt(image[level.blocks :].view("<u4"))
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
    """A valid level, one with a corrupted word, and one with a coordinate at its size."""
    lengths = [3, 1, 4, 2, 7, 3]
    end = 20 + sum(lengths)  # of the words: they begin at any of the first 20
    rng = random.Random(case)
    at = rng.randrange(20, 31)
    amount, kept = rng.choice([(0, 0xFFFF0000), (-5 << 16, ~0), (7 << 16, ~0)])

    def corrupt(words: NDArray[np.uint32]) -> None:
        words[at] = (int(words[at]) + amount) & kept & 0xFFFFFFFF

    changes: dict[str, Any] = {}
    if case % 3 == 1:
        changes["corrupt"] = corrupt
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
    """Two words per cycle, and no bubble between fibers, if the queues are deep."""
    if bench.parameters["depth"] == 1:
        return
    lengths = [201, 100, 301, 64]
    cycles = await run_fibers(dut, lengths, [*range(4)], stride=PACKED_STRIDE, latency=4)
    rate = sum(lengths) / (cycles[-1] - cycles[0] + 1)
    dut._log.info("%.3f words per cycle, the first in cycle %d", rate, cycles[0])
    assert rate >= 1.9


@cocotb.test()
@cocotb.parametrize(share=[0.02, 0.3], timing=[(1.0, 0.0, 4), (0.9, 0.4, 30)])
async def unwanted_words(dut: Any, share: float, timing: tuple[float, float, int]) -> None:
    """Fibers in which some words match, and the rest may be skipped."""
    rng = bench.rng()
    patience, stall, latency = timing
    config = configuration(bench.parameters["depth"])
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    lengths = [rng.choice([0, 1, 2, 7, 9, 60]) for _ in range(40)]
    level, _ = place_level(image, 0, lengths, PACKED_STRIDE, rng, sound=True)
    fibers = [
        scan(image, [n], table=level.table, stride=PACKED_STRIDE, blocks=level.blocks)[0]
        for n in range(len(lengths))
    ]
    source = Source(dut, "scan__0__i", FIBER_REQUEST, rng, stall=stall)
    sink = Sink(dut, "scan__0__o", FIBER_BLOCKS, rng, stall=stall)
    LineMemory(dut, config, image, rng, latency=latency)
    await bench.start(dut)
    for n, (base, last) in enumerate(equal_rings(2, POOL_LINES)):
        getattr(dut, f"ring__{n}").value = base | last << config.pool_bits
    dut.scan__0__table.value = level.table
    dut.scan__0__blocks.value = level.blocks
    dut.scan__0__size.value = 1 << COORDINATE_BITS
    await ClockCycles(dut.clk, 2)
    requests = [{"position": n, "empty": 0} for n in range(len(lengths))]
    cocotb.start_soon(source.send_all(requests))
    passed_on = await check_bounded(dut, "scan__0__", sink, fibers, share, patience=patience)
    assert passed_on < sum(lengths)
    assert not int(dut.scan__0__fault.value)
    assert not int(dut.error.value)


@cocotb.test()
async def the_longest_fiber(dut: Any) -> None:
    """More blocks than a small length can say."""
    await run_fibers(dut, [3, 12_000, 1], [0, 1, 2], stride=OPEN_STRIDE, latency=4)


@cocotb.test()
@cocotb.parametrize(length=[0, 1, 2])
async def short_fibers(dut: Any, length: int) -> None:
    """One fiber per cycle if each has up to two words and the queues are deep."""
    if bench.parameters["depth"] == 1:
        return
    cycles = await run_fibers(dut, [length] * 400, [*range(400)], stride=PACKED_STRIDE, latency=4)
    rate = 400 / (cycles[-1] - cycles[0] + 1)
    dut._log.info("%.3f fibers of %d words per cycle", rate, length)
    assert rate >= 0.9


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", [64, 1])
def test_scanner(simulator: str, depth: int) -> None:
    """With deep queues and with the shallowest ones."""
    bank = StreamBank(configuration(depth), scanners=1, values=0, words=0, lines=POOL_LINES)
    run_bench(
        bank,
        module=__name__,
        simulator=simulator,
        parameters={"depth": depth},
    )
