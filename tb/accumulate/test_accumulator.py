"""`Accumulator` behind a model of the leaf, against the golden sums and passes."""

import random
from itertools import product
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.accumulate.accumulator import Accumulator
from loopnest_hw.accumulate.ends import UNDECIDED
from loopnest_hw.accumulate.hashing import set_of
from loopnest_hw.accumulate.place import BANKS, TABLES, set_bits
from loopnest_hw.accumulate.words import word_set_bits
from loopnest_hw.config import LANES, ChipConfig, NumberFormat, make_config
from loopnest_hw.descriptor import Reduction
from loopnest_hw.format import BLOCK_COORDINATE_BITS
from loopnest_hw.tokens import RESULT_BLOCK
from loopnest_sim.model.accumulate import WORD, accumulate, passes
from loopnest_sim.model.arith import wide_type, widen
from tb.accumulate.leaf import Fiber, Item, Leaf
from tb.harness import bench, run_bench, runs
from tb.result.items import apart
from tb.streams import Sink


def configuration(parameters: dict[str, Any]) -> ChipConfig:
    """Return the bench's configuration."""
    return make_config(**parameters)


def random_value(rng: random.Random, fmt: NumberFormat) -> int:
    """Return the bits of a wide value."""
    if fmt is NumberFormat.INT8:
        return rng.randrange(-(1 << 20), 1 << 20) & 0xFFFFFFFF
    number = np.float32(rng.choice([0.0, -0.0, 1.0, rng.uniform(-4, 4), rng.uniform(-1e6, 1e6)]))
    return int(number.view(np.uint32))


def random_item(rng: random.Random, blocks: list[int], lanes: int, fmt: NumberFormat) -> Item:
    """Return values for some of the blocks, with up to `lanes` lanes each."""
    chosen = sorted(set(rng.choices(blocks, k=rng.choice([0, 1, 2, 2]))))
    return {
        block: {
            lane: random_value(rng, fmt) for lane in rng.sample(range(LANES), rng.randint(1, lanes))
        }
        for block in chosen
    }


def near(config: ChipConfig) -> int:
    """Return a number of blocks, more than there are slots."""
    return max(64, 2 * config.slots)


def colliding(config: ChipConfig) -> list[int]:
    """Return blocks whose tags have the same sets, and their words' tags too."""
    bits, words = set_bits(config), word_set_bits(config)
    return [
        block
        for block in range(1 << BLOCK_COORDINATE_BITS)
        if not any(set_of(block, 16, bits, table) for table in range(TABLES))
        and (bits > 2 or not any(set_of(block >> 5, 11, words, table) for table in range(TABLES)))
    ]


def fibers_of(kind: str, rng: random.Random, config: ChipConfig) -> list[Fiber]:
    """Return fibers of one kind."""
    fmt, slots = config.dtype, config.slots
    count, shortest, length, lanes = 30, 1, 12, 4
    span = list(range(near(config)))
    if kind == "few":  # additions to the same lanes
        span, lanes = [3, 4, 20], 2
    elif kind == "short":  # fibers of one lookup
        length = 1
        count = 80
    elif kind == "empty":  # most fibers have no blocks
        return [
            Fiber(
                rng.getrandbits(32),
                [random_item(rng, span, lanes, fmt) if rng.random() < 0.2 else {}]
                + [{}] * (rng.random() < 0.1),
            )
            for _ in range(200)
        ]
    elif kind == "bank":  # each in a word of its own
        span = list(range(5, 8 * BANKS, BANKS))
    elif kind == "crowded":  # more blocks than slots
        shortest = length = 3 * slots
        count = bench.count(12) if slots < 16 else 4
        span = rng.sample(range(4 * slots), 3 * slots)
    elif kind == "collide":  # all in the same sets, as many as there are slots
        shortest = length = 2 * slots
        count = bench.count(12) if slots < 16 else 4
        same = colliding(config)
        span = rng.sample(same, min(len(same), slots))
    elif kind == "wide":
        shortest = length = min(slots, 40)
        count = 8 if slots < 16 else 4
        span = [rng.randrange(1 << 16) for _ in range(3 * slots)]
    elif kind == "top":  # to the highest block
        length, count = 10, 6
        span = [rng.randrange((1 << 16) - 128, 1 << 16) for _ in range(30)] + [0xFFFF, 0]
    return [
        Fiber(
            rng.getrandbits(32),
            [random_item(rng, span, lanes, fmt) for _ in range(rng.randint(shortest, length))],
        )
        for _ in range(count)
    ]


def expected(
    fibers: list[Fiber], config: ChipConfig, reduction: Reduction = Reduction.SUM
) -> tuple[list[dict[str, Any]], bool]:
    """Return the golden result blocks, and whether a sum overflows."""
    terms = [
        (16 * block + lane, value, number)
        for number, fiber in enumerate(fibers)
        for item in fiber.items
        for block, lanes in sorted(item.items())
        for lane, value in sorted(lanes.items())
    ]
    key, value, number = (
        np.array(x) for x in (zip(*terms, strict=True) if terms else ([], [], []))
    )
    blocks, overflow = accumulate(
        key.astype(np.int64),
        widen(value.astype(np.uint32), config.dtype, wide=True).astype(wide_type(config.dtype)),
        number.astype(np.int64),
        np.array([fiber.position for fiber in fibers]),
        fmt=config.dtype,
        reduction=reduction,
    )
    items = [
        {
            "coordinate": int(blocks.coordinate[n]) if blocks.mask[n] else None,
            "mask": int(blocks.mask[n]),
            "value": blocks.value[n].tolist(),
            "fiber": int(blocks.fiber[n]),
            "last": int(blocks.last[n]),
            "final": int(blocks.final[n]),
        }
        for n in range(len(blocks))
    ]
    return items, overflow


def normal(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return received items as single blocks, with a separate ``last`` merged into its block."""
    out: list[dict[str, Any]] = []
    for item in apart(items):
        del item["second"]
        if item["mask"] == 0:
            assert item["last"] and not any(item["value"])
            if out and not out[-1]["last"]:
                assert out[-1]["fiber"] == item["fiber"]
                out[-1] = {**out[-1], "last": 1, "final": item["final"]}
                continue
            item = {**item, "coordinate": None}
        out.append(item)
    return out


async def sweep(dut: Any) -> None:
    """Clear the tables."""
    dut.sweep.value = 1
    for set_ in range(1 << set_bits(configuration(bench.parameters))):
        dut.sweep_set.value = set_
        await RisingEdge(dut.clk)
    dut.sweep.value = 0


async def run_fibers(
    dut: Any,
    fibers: list[Fiber],
    stall: float = 0.0,
    extra: float = 0.0,
    reduction: Reduction = Reduction.SUM,
    pairs: int = 1,
    last: bool = False,
    slow: float = 0.0,
) -> tuple[Leaf, Sink, int]:
    """Send the fibers to the device, with ``last`` their terms last, and compare; return leaf,
    sink, and evictions. ``slow`` is a further stall of the results.
    """
    config = configuration(bench.parameters)
    rng = bench.rng()
    items, overflow = expected(fibers, config, reduction)
    assert WORD == BANKS
    leaf = Leaf(dut, config, fibers, rng, stall, extra, last)
    sink = Sink(dut, "o", RESULT_BLOCK, rng, stall=max(stall, slow))
    evictions = 0

    async def count() -> None:
        nonlocal evictions
        while True:
            await RisingEdge(dut.clk)
            evictions += int(dut.evicted.value)

    await bench.start(dut)
    await sweep(dut)
    dut.replayable.value = 1
    dut.pairs.value = pairs
    dut.reduction.value = int(reduction)
    cocotb.start_soon(count())
    leaf.start()
    idle = 0
    seen = -1
    while not (sink.received and sink.received[-1]["final"]):
        await RisingEdge(dut.clk)
        idle = 0 if seen != len(sink.received) else idle + 1
        seen = len(sink.received)
        assert idle < 5000, f"{seen} of {len(items)} blocks, then none"
    await ClockCycles(dut.clk, 50)
    assert leaf.done
    received = normal(sink.received)
    for n, (got, want) in enumerate(zip(received, items, strict=False)):
        assert got == want, f"block {n}: {got} instead of {want}"
    assert len(received) == len(items)
    counted = [
        passes([sorted(item) for item in fiber.items], config.slots, config.evicted_slots)
        for fiber in fibers
    ]
    assert leaf.replays == sum(number - 1 for number, _ in counted)
    assert evictions == sum(evicted for _, evicted in counted)
    assert int(dut.overflow.value) == overflow
    assert int(dut.error.value) == 0
    return leaf, sink, evictions


@cocotb.test()
@cocotb.parametrize(
    kind=["random", "few", "short", "bank", "crowded", "collide", "wide", "top", "empty"],
    stall=[0.0, 0.4],
)
async def sums(dut: Any, kind: str, stall: float) -> None:
    """Every kind of fibers, at full speed and with stalls."""
    config = configuration(bench.parameters)
    fibers = fibers_of(kind, bench.rng(), config)
    leaf, _, evictions = await run_fibers(dut, fibers, stall, extra=stall / 2)
    dut._log.info("%d replays, %d stale, %d evictions", leaf.replays, leaf.stale, evictions)
    if kind == "crowded" or (kind == "wide" and config.slots < 16):
        assert leaf.replays > 1
    if kind == "crowded":
        assert evictions > 3


@cocotb.test()
async def one_at_a_time(dut: Any) -> None:
    """The same blocks, each as an item of its own."""
    config = configuration(bench.parameters)
    _, sink, _ = await run_fibers(dut, fibers_of("random", bench.rng(), config), pairs=0)
    assert all(item["second"]["mask"] == 0 for item in sink.received)


@cocotb.test()
async def empty_fibers_take_no_context(dut: Any) -> None:
    """Among as many fibers with blocks as there are contexts, empty ones are looked up, too."""
    config = configuration(bench.parameters)
    rng = bench.rng()
    count = config.passes_ended - UNDECIDED + 1
    blocks = set(rng.sample(range(count), config.fibers_in_flight))
    fibers = [
        Fiber(
            rng.getrandbits(32), [{n: {0: random_value(rng, config.dtype)}} if n in blocks else {}]
        )
        for n in range(count)
    ]
    await run_fibers(dut, fibers, last=True)


@cocotb.test()
async def empty_fibers_wait_for_results(dut: Any) -> None:
    """More than the ring of ends has room for, and results that leave slowly."""
    config = configuration(bench.parameters)
    fibers = fibers_of("empty", bench.rng(), config)
    await run_fibers(dut, fibers * (1 + config.passes_ended // 100), slow=0.8)


@cocotb.test()
@cocotb.parametrize(reduction=[Reduction.MIN, Reduction.MAX])
async def extremes(dut: Any, reduction: Reduction) -> None:
    """The minimum or maximum term of each key."""
    config = configuration(bench.parameters)
    await run_fibers(dut, fibers_of("few", bench.rng(), config), reduction=reduction)


def spread_fibers(
    rng: random.Random, config: ChipConfig, count: int, lookups: int, span: list[int], lanes: int
) -> list[Fiber]:
    """Return fibers with lookups of two blocks of the span, with this number of lanes together."""
    fibers = []
    for _ in range(count):
        items = []
        for _ in range(lookups):
            a, b = rng.sample(span, 2)
            where = rng.sample(range(LANES), lanes)
            cut = rng.randint(1, lanes - 1)
            items.append(
                {
                    a: {lane: random_value(rng, config.dtype) for lane in where[:cut]},
                    b: {lane: random_value(rng, config.dtype) for lane in where[cut:]},
                }
            )
        fibers.append(Fiber(rng.getrandbits(32), items))
    return fibers


@cocotb.test()
async def lost(dut: Any) -> None:
    """A fiber that cannot be replayed and loses blocks raises an error; the others are complete."""
    config = configuration(bench.parameters)
    rng = bench.rng()
    far = 0xFFFF
    fibers = [
        Fiber(n, [{block: {2: random_value(rng, config.dtype)}} for block in blocks])
        for n, blocks in enumerate([[far - 1], [*range(config.slots), far], [far - 1, 1]])
    ]
    kept = [Fiber(f.position, [i for i in f.items if far not in i]) for f in fibers]
    leaf = Leaf(dut, config, fibers, rng)
    sink = Sink(dut, "o", RESULT_BLOCK, rng)
    await bench.start(dut)
    await sweep(dut)
    assert int(dut.error.value) == 0
    leaf.start()
    items, _ = expected(kept, config)
    received = await sink.wait_for(len(items))
    assert normal(received) == items
    await ClockCycles(dut.clk, 50)
    assert len(sink.received) == len(items)
    assert leaf.done
    assert leaf.replays == 0
    assert int(dut.error.value) == 1


@cocotb.test()
@cocotb.parametrize(wrong=[[], [0x7FFFFFFF, 1], [0x80000000, 0xFFFFFFFF]])
async def overflows(dut: Any, wrong: list[int]) -> None:
    """A sum that overflows int32 is reported; one that just fits is not."""
    config = configuration(bench.parameters)
    if config.dtype is not NumberFormat.INT8:
        return
    high, low = 0x7FFFFFFF, 0x80000000
    chains = [[high, 0], [low, high, 1], [5, high - 5], wrong]
    lane = bench.rng().randrange(LANES)
    fibers = [Fiber(7, [{0: {lane: v}} for v in chain] or [{}]) for chain in chains]
    await run_fibers(dut, fibers)
    assert int(dut.overflow.value) == bool(wrong)


@cocotb.test()
async def step_rate(dut: Any) -> None:
    """One step per cycle, if fibers have more steps than blocks."""
    config = configuration(bench.parameters)
    if config.slots < 64:
        return
    rng = bench.rng()
    span = sorted(rng.sample(range(256), 12))
    fibers = spread_fibers(rng, config, 20, 48, span, 4)
    leaf, sink, _ = await run_fibers(dut, fibers)
    rate = leaf.steps / (leaf.taken[-1] - leaf.taken[0])
    dut._log.info("%.3f steps per cycle, %d blocks", rate, len(sink.received))
    # In a quarter of the steps, a lane was added to less than four cycles ago.
    assert rate >= (0.9 if config.dtype is NumberFormat.INT8 else 0.7)


@cocotb.test()
@cocotb.parametrize(pairs=[0, 1])
async def block_rate(dut: Any, pairs: int) -> None:
    """Rate of blocks, if nearly every block of a step is new."""
    config = configuration(bench.parameters)
    if config.slots < 64:
        return
    rng = bench.rng()
    fibers = spread_fibers(rng, config, 40, 10, list(range(256)), 2)
    leaf, sink, _ = await run_fibers(dut, fibers, pairs=pairs)
    rate = (len(apart(sink.received)) - 1) / (sink.cycles[-1] - sink.cycles[0])
    dut._log.info("%.3f blocks per cycle, %d steps", rate, leaf.steps)
    assert rate >= (1.45 if pairs else 0.97)


CASES = {
    "shrunk": {"preset": "shrunk"},
    "single": {"slots": 96},
    "narrow": {"slots": 5, "fibers_in_flight": 1, "multipliers": 1},
}
NARROW = ("int8", "narrow")


@pytest.mark.parametrize(
    ("simulator", "dtype", "case"),
    runs([*product(("int8", "bf16"), ("shrunk", "single")), NARROW], icarus=[NARROW]),
)
def test_accumulator(simulator: str, dtype: str, case: str) -> None:
    """Few slots; enough for full speed; one context."""
    parameters = {"dtype": dtype, **CASES[case]}
    run_bench(
        Accumulator(configuration(parameters)),
        module=__name__,
        simulator=simulator,
        parameters=parameters,
    )
