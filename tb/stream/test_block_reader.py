"""Bench of `BlockReader`."""

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LINE_BYTES, ChipConfig, make_config
from loopnest_hw.format import LINE_WORDS
from loopnest_hw.stream.block_reader import BLOCK_RUN, BlockReader
from loopnest_hw.tokens import FIBER_BLOCKS
from loopnest_sim.model.scanner import fiber_items
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.bounds import check_bounded
from tb.stream.ring import RingMemory
from tb.streams import Sink, Source

IMAGE_LINES = 1024
RING = (7, 40)
LENGTHS = (0, 0, 1, 1, 2, 2, 3, 4, 7, 8, 9, 16, 30)

Run = dict[str, int]


def configuration() -> ChipConfig:
    """Return a configuration with queues of the bench's depth."""
    return make_config(stream_depth=bench.parameters["depth"])


def random_runs(rng: random.Random, lengths: Sequence[int]) -> list[Run]:
    """Return runs of these lengths; most begin where the one before ended, in its last line."""
    at = rng.randrange(LINE_WORDS)
    runs = []
    for length in lengths:
        if rng.random() < 0.3 or at + length > LINE_WORDS * IMAGE_LINES:
            at = rng.randrange(LINE_WORDS * IMAGE_LINES - length)
        line, first = divmod(at, LINE_WORDS)
        runs.append({"line": line, "first": first, "length": length, "child": rng.getrandbits(32)})
        at += length
    return runs


def sound_image() -> NDArray[np.uint8]:
    """Return a memory of block words that ascend."""
    words = np.arange(IMAGE_LINES * LINE_WORDS, dtype=np.uint32)
    masks = np.random.default_rng(bench.seed).integers(1, 1 << 16, words.size, np.uint32)
    return (7 * words << 16 | masks).view(np.uint8)


def golden(
    image: NDArray[np.uint8], runs: list[Run], size: int
) -> tuple[list[list[dict[str, Any]]], int]:
    """Return the items of each run, and the fault."""
    words = image.view("<u4")
    fibers, fault = [], 0
    for run in runs:
        start = LINE_WORDS * run["line"] + run["first"]
        items, found = fiber_items(
            words[start : start + run["length"]].tolist(), run["child"], size
        )
        fibers.append(items)
        fault |= found["tensor"] | found["coordinate"] << 1
    return fibers, fault


async def begin(
    dut: Any, image: NDArray[np.uint8], runs: list[Run], stall: float, size: int, **options: Any
) -> tuple[Sink, RingMemory]:
    """Send runs; return what receives the items, and the memory."""
    rng = bench.rng()
    source = Source(dut, "i", BLOCK_RUN, rng, stall=stall)
    sink = Sink(dut, "o", FIBER_BLOCKS, rng, stall=stall)
    config = configuration()
    memory = RingMemory(dut, config, image, rng, ring=RING, stall=stall, **options)
    await bench.start(dut)
    dut.ring.value = RING[0] | RING[1] << config.pool_bits
    dut.size.value = size
    await ClockCycles(dut.clk, 2)
    cocotb.start_soon(source.send_all(runs))
    return sink, memory


async def run_all(
    dut: Any,
    image: NDArray[np.uint8],
    runs: list[Run],
    *,
    stall: float = 0.0,
    size: int = 1 << COORDINATE_BITS,
    **options: Any,
) -> tuple[list[int], int]:
    """Read runs without bounds; return the items' cycles and the fault."""
    sink, memory = await begin(dut, image, runs, stall, size, **options)
    fibers, fault = golden(image, runs, size)
    expected = [item for fiber in fibers for item in fiber]
    assert await sink.wait_for(len(expected), idle=2000) == expected
    await ClockCycles(dut.clk, 100)
    assert len(sink.received) == len(expected)
    # a line that two runs share is read once
    lines: list[int] = []
    for run in runs:
        end = LINE_WORDS * run["line"] + run["first"] + run["length"]
        for line in range(run["line"], -(-end // LINE_WORDS)) if run["length"] else ():
            lines += [line] if lines[-1:] != [line] else []
    assert memory.lines == lines
    assert int(dut.fault.value) == fault
    return sink.cycles, fault


@cocotb.test()
@cocotb.parametrize(timing=[(1, 0, 0.0), (4, 20, 0.0), (100, 60, 0.0), (1, 9, 0.4), (4, 0, 0.4)])
async def runs(dut: Any, timing: tuple[int, int, float]) -> None:
    """Runs of all lengths, anywhere, of any words, at every timing."""
    rng = bench.rng()
    latency, spread, stall = timing
    image = np.frombuffer(rng.randbytes(IMAGE_LINES * LINE_BYTES), np.uint8)
    made = random_runs(rng, [rng.choice(LENGTHS) for _ in range(100)])
    await run_all(dut, image, made, latency=latency, spread=spread, stall=stall)


@cocotb.test()
@cocotb.parametrize(case=[*range(24)])
async def words_that_contradict_themselves(dut: Any, case: int) -> None:
    """A valid memory, one with a corrupted word, and one with a coordinate at its size."""
    rng = random.Random(case)
    image = sound_image()
    made = random_runs(rng, [rng.choice(LENGTHS) for _ in range(6)] + [3])
    size = 1 << COORDINATE_BITS
    run = rng.choice([run for run in made if run["length"]])
    at = LINE_WORDS * run["line"] + run["first"] + rng.randrange(run["length"])
    words = image.view("<u4")
    if case % 4 == 1:  # an empty mask
        words[at] &= 0xFFFF0000
    elif case % 4 == 2:  # no more than the one before, if that is of the same run
        words[at] = int(words[at]) - (rng.choice([7, 8]) << 16) & 0xFFFFFFFF
    elif case % 4 == 3:  # the size cuts this block off, or part of it
        block = int(words[at]) >> 16
        size = 16 * block + rng.choice([0, 1, 8, 15, 16]) if block < 1 << 16 else 0
    _, fault = await run_all(dut, image, made, latency=3, size=size)
    assert case % 4 or not fault
    assert case % 4 != 1 or fault & 1


@cocotb.test()
@cocotb.parametrize(lengths=[[201, 100, 301, 64], [2] * 200, [1] * 200, [0] * 200])
async def two_words_a_cycle(dut: Any, lengths: list[int]) -> None:
    """Across lines, one run per cycle if each has up to two words of a line."""
    if bench.parameters["depth"] == 1:
        return
    made = []
    at = 3
    for length in lengths:
        line, first = divmod(at, LINE_WORDS)
        made.append({"line": line, "first": first, "length": length, "child": at})
        at += length
    cycles, _ = await run_all(dut, sound_image(), made, latency=4)
    least = sum(max(1, -(-length // 2)) for length in lengths)
    # every fourth run of two words is in two lines, and takes another cycle
    assert cycles[-1] - cycles[0] + 1 <= least * (1.26 if lengths[0] == 2 else 1) + 4


@cocotb.test()
@cocotb.parametrize(
    share=[0.0, 0.02, 0.3, 1.0], timing=[(1.0, 0.0, 4), (0.5, 0.0, 1), (0.9, 0.4, 30)]
)
async def unwanted_words(dut: Any, share: float, timing: tuple[float, float, int]) -> None:
    """Runs of all lengths in which some words match, and the rest may be skipped."""
    rng = bench.rng()
    patience, stall, latency = timing
    image = sound_image()
    made = random_runs(rng, [rng.choice([*LENGTHS, 60, 200]) for _ in range(40)])
    size = 1 << COORDINATE_BITS
    sink, _ = await begin(dut, image, made, stall, size, latency=latency)
    fibers, _ = golden(image, made, size)
    passed_on = await check_bounded(dut, "", sink, fibers, share, patience=patience)
    assert share == 1.0 or passed_on < sum(run["length"] for run in made)


@cocotb.test()
async def lines_of_unwanted_words(dut: Any) -> None:
    """One line per cycle, also if one word matches and the next bound is known."""
    if bench.parameters["depth"] == 1:
        return
    image = sound_image()
    made = [{"line": 3, "first": 5, "length": 4000, "child": 1}]
    sink, _ = await begin(dut, image, made, 0.0, 1 << COORDINATE_BITS, latency=4)
    fibers, _ = golden(image, made, 1 << COORDINATE_BITS)
    passed_on = await check_bounded(dut, "", sink, fibers, 0.003)
    assert passed_on < 100
    assert sink.cycles[-1] - sink.cycles[0] < 4000 / LINE_WORDS + 35
    assert not int(dut.fault.value)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("depth", [64, 1])
def test_block_reader(simulator: str, depth: int) -> None:
    if depth == 64 and simulator == "icarus":
        pytest.skip("left to the other simulator")
    run_bench(
        BlockReader(make_config(stream_depth=depth)),
        module=__name__,
        simulator=simulator,
        parameters={"depth": depth},
    )
