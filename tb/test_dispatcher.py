"""The dispatcher against `scan` and `join`: row 0 of many nests, with a reset before each."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES, make_config
from loopnest_hw.descriptor import CellMode
from loopnest_hw.dispatcher import Dispatcher
from loopnest_hw.format import BLOCK_MASK_BITS, LINE_WORDS, OPEN_STRIDE, PACKED_STRIDE
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.registers import ErrorCode
from loopnest_hw.tokens import joined
from loopnest_sim.model.join import Joined, Word, join
from loopnest_sim.model.scanner import scan
from tb.harness import SIMULATORS, bench, run_bench
from tb.row.test_joiner import table
from tb.stream.memory import LineMemory
from tb.streams import Sink, encode

CONFIG = make_config("tiny", fifo_depth=2, stream_depth=4, pool_lines=32)
OPERANDS = range(CONFIG.operands)
IMAGE_LINES = 256
NESTS = 10
LONGEST = 150


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_dispatcher(simulator: str) -> None:
    run_bench(Dispatcher(CONFIG), module=__name__, simulator=simulator)


def place_fiber(
    words: NDArray[np.uint32], at: int, position: int, stride: int, rng: random.Random
) -> tuple[int, int]:
    """Write a table with one fiber of ascending blocks, from line ``at`` on.

    Returns the lines of its table and of its block words.
    """
    length = rng.choice([0, 1, 2, 3, 9, LONGEST])
    coordinates = sorted(rng.sample(range(length + 10), length))
    first = rng.randrange(9)
    blocks = at + stride * position // LINE_WORDS + 2
    entry = at * LINE_WORDS + stride * position
    words[entry : entry + 3] = first, rng.getrandbits(32), first + length
    for n, coordinate in enumerate(coordinates):
        mask = rng.choice([1 << rng.randrange(LANES), rng.randrange(1, 1 << LANES)])
        words[blocks * LINE_WORDS + first + n] = coordinate << BLOCK_MASK_BITS | mask
    return at, blocks


class Nest:
    """Row 0 of a random nest, its fibers in memory, and the expected items."""

    def __init__(self, image: NDArray[np.uint8], rng: random.Random) -> None:
        modes = [rng.choice(list(CellMode)) for _ in OPERANDS]
        modes[rng.randrange(CONFIG.operands)] = CellMode.SCAN
        used = [m == CellMode.SCAN or rng.random() < 0.8 for m in modes]
        others = [o for o in OPERANDS if modes[o] != CellMode.SCAN and used[o]]
        ones = [rng.choice(others)] if others and rng.random() < 0.5 else []
        size = rng.choice([0, 1, 16, 33, 500, *4 * [LANES * (LONGEST + 10)]])
        starts = [rng.choice([0, 0, 1, 20]) for _ in OPERANDS]
        self.joins = [modes[o] == CellMode.SCAN or o in ones for o in OPERANDS]
        self.scans = [mode == CellMode.SCAN for mode in modes]
        self.child = [0 for _ in OPERANDS]
        tables = table(rng, sum(bit << o for o, bit in enumerate(self.joins)))
        fibers: list[list[Word]] = [[] for _ in OPERANDS]
        settings: list[dict[str, int]] = []
        for o in OPERANDS:
            stride = rng.choice([PACKED_STRIDE, OPEN_STRIDE])
            words = image.view("<u4")
            at, blocks = place_fiber(words, o * IMAGE_LINES // 3, starts[o], stride, rng)
            setting = {
                "table": at * LINE_BYTES,
                "blocks": blocks * LINE_BYTES,
            }
            items, _ = scan(image, [starts[o]], stride=stride, **setting)
            settings.append(setting | {"open": int(stride == OPEN_STRIDE)})
            if self.scans[o]:
                self.child[o] = items[0]["child"]
                fibers[o] = [
                    Word(item["word"][n]["coordinate"], item["word"][n]["mask"], item["rank"][n])
                    for item in items
                    for n in range(item["count"])
                ]
            elif o in ones:
                sizes = [min(LANES, size - first) for first in range(0, size, LANES)]
                fibers[o] = [Word(n, (1 << lanes) - 1, 0) for n, lanes in enumerate(sizes)]
        scanned = [word for o in OPERANDS if self.scans[o] for word in fibers[o]]
        beyond = any(w.coordinate * LANES + w.mask.bit_length() > size for w in scanned)
        self.error = ErrorCode.COORDINATE if beyond else ErrorCode.NONE
        self.blocks = join(fibers, used, self.joins, tables, tables)
        row = {
            "cell": [{"mode": modes[o].value, "ones": o in ones} for o in OPERANDS],
            "block_table": tables,
            "lane_table": tables,
            "size": size,
        }
        operands = [{"used": used[o], "start": starts[o]} for o in OPERANDS]
        others_rows = [{"bypass": 1} for _ in range(1, CONFIG.rows)]
        kernel = {"row": [row, *others_rows], "dispatch": settings, "operand": operands}
        self.kernel = encode(kernel_layout(CONFIG), kernel)

    def check(self, received: list[dict[str, Any]]) -> None:
        """Compare the received joined blocks."""
        expected: list[Joined | None] = list(self.blocks) or [None]
        assert [item["last"] for item in received] == [0] * (len(expected) - 1) + [1]
        for item, want in zip(received, expected, strict=True):
            assert item["count"] == int(want is not None)
            if want is None:
                continue
            block = item["block"][0]
            assert (block["coordinate"], block["lanes"]) == (want.coordinate, want.lanes)
            for o in OPERANDS:
                if self.joins[o]:
                    assert (block["mask"][o], block["rank"][o]) == (want.mask[o], want.rank[o])
                if self.scans[o] and want.mask[o]:
                    assert item["child"][o] == self.child[o]


async def restart(dut: Any, kernel: int) -> None:
    """Reset with another kernel."""
    dut.rst.value = 1
    dut.kernel.value = kernel
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0


@cocotb.test()
@cocotb.parametrize(timing=[(1, 0, 0.0), (20, 20, 0.0), (3, 9, 0.4)])
async def nests(dut: Any, timing: tuple[int, int, float]) -> None:
    """Random rows one after the other, at several timings."""
    rng = bench.rng()
    latency, spread, stall = timing
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    sink = Sink(dut, "o", joined(CONFIG, 1), bench.rng(), stall)
    LineMemory(dut, CONFIG, image, bench.rng(), latency=latency, spread=spread, stall=stall)
    await bench.start(dut)
    done = 0
    errors = set()
    for _ in range(NESTS):
        nest = Nest(image, rng)
        await restart(dut, nest.kernel)
        await sink.wait_for(done + max(1, len(nest.blocks)), idle=2000)
        # nothing more arrives, and every read is answered before the next reset
        await ClockCycles(dut.clk, 100)
        nest.check(sink.received[done:])
        done = len(sink.received)
        assert int(dut.error.value) == nest.error
        errors.add(nest.error)
    assert done >= 2 * NESTS
    assert errors == {ErrorCode.NONE, ErrorCode.COORDINATE}


@cocotb.test()
async def failed_read(dut: Any) -> None:
    """A failed read is reported until the reset; the fiber still ends."""
    rng = bench.rng()
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    sink = Sink(dut, "o", joined(CONFIG, 1), bench.rng())
    LineMemory(dut, CONFIG, image, rng, latency=2, bad_lines=frozenset(range(IMAGE_LINES)))
    await bench.start(dut)
    assert int(dut.error.value) == ErrorCode.NONE
    nest = Nest(image, rng)
    await restart(dut, nest.kernel)
    while not sink.received or not sink.received[-1]["last"]:
        await sink.wait_for(len(sink.received) + 1, idle=500)
    assert int(dut.error.value) == ErrorCode.READ_ERROR
    await restart(dut, 0)
    await ClockCycles(dut.clk, 2)
    assert int(dut.error.value) == ErrorCode.NONE
