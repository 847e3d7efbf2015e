"""Bench of the writer."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw import tokens
from loopnest_hw.config import LINE_BYTES, NumberFormat, make_config
from loopnest_hw.descriptor import Output
from loopnest_hw.result.writer import Writer
from loopnest_sim.image import Image
from loopnest_sim.model.blocks import Blocks
from loopnest_sim.model.write import Written, write
from tb.harness import SIMULATORS, bench, run_bench
from tb.result.items import (
    NO_BLOCK,
    joined,
    noisy,
    paired,
    random_blocks,
    setting,
    to_blocks,
    to_items,
)
from tb.streams import Sink, Source

MEMORY = 1 << 16
TABLE, BLOCKS, VALUES = 0x1000, 0x3000, 0x6000
NEXT = {"table": BLOCKS, "blocks": VALUES, "values": MEMORY}
"""The begin of the next array."""


def new_image(rng: random.Random) -> Image:
    """Return a memory full of a guard pattern."""
    image = Image()
    image.write(0, rng.randbytes(MEMORY))
    return image


class Memory:
    """Takes line writes into an image, and counts them."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.lines = 0

    def write(self, item: dict[str, Any]) -> None:
        address = item["line"] * LINE_BYTES
        assert address < MEMORY, f"write at {address:#x}"
        assert item["strobe"], "a line without strobes"
        line = bytearray(self.image.read(address, LINE_BYTES))
        for k in range(LINE_BYTES):
            if item["strobe"] >> k & 1:
                line[k] = item["data"] >> 8 * k & 0xFF
        self.image.write(address, line)
        self.lines += 1


def ref_write(
    blocks: Blocks, kernel: dict[str, int], fmt: NumberFormat, image: Image
) -> tuple[Image, Written]:
    image = image.copy()
    return image, write(blocks, kernel, fmt, image)


class Device:
    """The writer with a memory."""

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        self._dut = dut
        self.config = make_config(dtype=bench.parameters["dtype"], pes=bench.parameters["pes"])
        self._source = Source(dut, "i", tokens.RESULT_BLOCK, bench.rng(), stall=stall)
        self.dtype = self.config.dtype
        self._memory = Memory(Image())
        Sink(dut, "o", tokens.LINE_WRITE, bench.rng(), stall=stall, check=self._write)

    def _write(self, item: dict[str, Any]) -> None:
        self._memory.write(item)

    async def rtl_write(
        self, items: list[dict[str, Any]], kernel: dict[str, int], image: Image
    ) -> tuple[Memory, int]:
        """Reset, run, and return the memory and the cycles."""
        dut = self._dut
        self._memory = memory = Memory(image.copy())
        dut.rst.value = 1
        dut.result.value = setting(self.config, "result", kernel)
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 3)
        assert not int(dut.done.value) and not int(dut.busy.value) and not int(dut.full.value)
        sending = cocotb.start_soon(self._source.send_all(items))
        cycles = 0
        while not int(dut.done.value):
            await RisingEdge(dut.clk)
            cycles += 1
            assert cycles < 100 * (len(items) + 10), "no done"
        await sending
        lines = memory.lines
        await ClockCycles(dut.clk, 20)
        assert memory.lines == lines, "a line after done"
        assert int(dut.done.value) and not int(dut.o__valid.value) and not int(dut.busy.value)
        return memory, cycles

    async def check(
        self, blocks: Blocks, kernel: dict[str, int], full: int = 0, *, pairs: bool = False
    ) -> int:
        """Compare the device with the model; return the device's cycles."""
        items = paired(to_items(blocks), bench.rng()) if pairs else to_items(blocks)
        items = noisy(items, bench.rng())
        image = new_image(bench.rng())
        expected, written = ref_write(blocks, kernel, self.dtype, image)
        full_regions = written.blocks_full | written.values_full << 1 | written.table_full << 2
        assert full_regions == full
        memory, cycles = await self.rtl_write(items, kernel, image)
        wrong = np.flatnonzero(memory.image.read(0, MEMORY) != expected.read(0, MEMORY))
        assert len(wrong) == 0, f"{len(wrong)} wrong bytes, the first at {wrong[0]:#x}"
        assert memory.lines == written.lines
        assert int(self._dut.full.value) == full
        return cycles


def make_kernel(**changes: int) -> dict[str, int]:
    kernel = {
        "compressed": 1,
        "output": bench.parameters["output"],
        "table": TABLE,
        "table_end": BLOCKS,
        "blocks": BLOCKS,
        "blocks_end": BLOCKS + 0x3000,
        "values": VALUES,
        "values_end": VALUES + 0xA000,
    }
    return {f"result.{name}": value for name, value in (kernel | changes).items()}


@cocotb.test()
async def compressed(dut: Any) -> None:
    """Fibers in any order, of any length."""
    device = Device(dut, bench.parameters["stall"])
    await bench.start(dut)
    rng = bench.rng()
    for size, most in ((1 << 20, 5), (200, 9)):
        blocks = random_blocks(rng, rng.sample(range(500), 120), size=size, most=most)
        await device.check(blocks, make_kernel(), pairs=True)


@cocotb.test()
async def dense(dut: Any) -> None:
    """Fibers at addresses of any alignment, in any order; some overlap."""
    device = Device(dut, bench.parameters["stall"])
    await bench.start(dut)
    rng = bench.rng()
    size = 77
    fibers = [size * n for n in rng.sample(range(60), 50)]
    fibers += [rng.randrange(size * 60) for _ in range(50)]
    blocks = random_blocks(rng, fibers, size=size, most=5)
    await device.check(blocks, make_kernel(compressed=0))


@cocotb.test()
async def no_room(dut: Any) -> None:
    """Regions that are one byte too small, just large enough, or far too small."""
    device = Device(dut)
    await bench.start(dut)
    rng = bench.rng()
    value_bytes = 4
    if bench.parameters["output"] == Output.NARROW:
        value_bytes = make_config(dtype=bench.parameters["dtype"]).dtype.narrow_bytes
    blocks = random_blocks(rng, range(20), size=300, most=4)
    words = int((blocks.mask != 0).sum())
    values = int(blocks.lanes.sum())
    enough = {"blocks_end": BLOCKS + 4 * words, "values_end": VALUES + value_bytes * values}
    for changes, full in (
        ({}, 0),
        ({"blocks_end": BLOCKS + 4 * words - 1}, 1),
        ({"values_end": VALUES + value_bytes * values - 1}, 2),
        ({"blocks_end": BLOCKS + 36, "values_end": VALUES + 37}, 3),
        ({"blocks_end": BLOCKS, "values_end": 0}, 3),
        ({"table_end": TABLE + 16 * 20}, 0),
        ({"table_end": TABLE + 16 * 20 - 1}, 4),
        ({"table_end": TABLE}, 4),
    ):
        kernel = make_kernel(**(enough | changes))
        await device.check(blocks, kernel, full=full)
        # with pairs, other chunks may be the ones that are dropped
        image = new_image(rng)
        memory, _ = await device.rtl_write(paired(to_items(blocks), rng), kernel, image)
        assert int(dut.full.value) == full
        for name in ("table", "blocks", "values"):
            end = kernel[f"result.{name}_end"]
            beyond = max(end, kernel[f"result.{name}"])
            size = NEXT[name] - beyond
            assert np.array_equal(memory.image.read(beyond, size), image.read(beyond, size))
    # a table whose entries would wrap
    few = random_blocks(rng, [3, (1 << 32) - 1, 1 << 28, 7], size=64, most=4)
    await device.check(few, make_kernel(), full=4)
    # dense: the last value, and a position whose address would wrap
    blocks = random_blocks(rng, range(0, 20 * 300, 300), size=300, most=4)
    top = int((blocks.fiber + 16 * blocks.coordinate)[-1]) * value_bytes
    end = VALUES + top
    await device.check(blocks, make_kernel(compressed=0, values_end=end), full=2)
    for lane in range(16):  # just enough for a block's highest lane, and a byte too little
        item = {"coordinate": 3, "mask": 1 << lane | rng.getrandbits(lane), "value": [1] * 16}
        block = to_blocks([{**item, "fiber": 7, "last": 1, "final": 1}])
        end = VALUES + value_bytes * (7 + 16 * 3 + lane + 1)
        await device.check(block, make_kernel(compressed=0, values_end=end))
        await device.check(block, make_kernel(compressed=0, values_end=end - 1), full=2)
    far = random_blocks(rng, [5, (1 << 32) - 6, 1 << 30, (1 << 30) + 5], size=64, most=4)
    await device.check(far, make_kernel(compressed=0), full=2)


@cocotb.test()
async def nothing(dut: Any) -> None:
    """A result that is one empty fiber."""
    device = Device(dut)
    await bench.start(dut)
    item = {"coordinate": 0, "mask": 0, "value": [0] * 16, "fiber": 3, "last": 1, "final": 1}
    for compressed in range(2):
        await device.check(to_blocks([item]), make_kernel(compressed=compressed))


@cocotb.test()
async def rate(dut: Any) -> None:
    """Blocks of eight values take one cycle each, even if their chunks cross lines."""
    device = Device(dut)
    await bench.start(dut)
    count = 200
    for first in (0xFF, 0x07):
        items = [
            {
                "coordinate": n,
                "mask": 0xAAAA if n else first,
                "value": [lane if 0xAAAA >> lane & 1 else 0 for lane in range(16)],
                "fiber": 0,
                "last": n == count - 1,
                "final": n == count - 1,
            }
            for n in range(count)
        ]
        blocks = to_blocks(items)
        blocks.value[0] = 1
        cycles = await device.check(blocks, make_kernel())
        if bench.parameters["output"] == Output.WIDE:
            # one line per cycle leaves, and those of words beside: one in nine
            assert cycles < count * 9 / 8 + 20, cycles


@cocotb.test()
async def rate_of_pairs(dut: Any) -> None:
    """Two blocks of four values take one cycle."""
    device = Device(dut)
    await bench.start(dut)
    count = 200
    items = []
    for n in range(count):
        masks = (0x0303, 0xC0C0) if n % 3 else (0x8421, 0x1248)
        for block, mask in enumerate(masks):
            last = n == count - 1 and block == 1
            value = [7 * n + lane if mask >> lane & 1 else 0 for lane in range(16)]
            place = {"coordinate": 2 * n + block, "fiber": 0, "last": last, "final": last}
            items.append({**place, "mask": mask, "second": dict(NO_BLOCK), "value": value})
    pairs = [joined(*items[n : n + 2]) for n in range(0, len(items), 2)]
    image = new_image(bench.rng())
    kernel = make_kernel()
    expected, written = ref_write(to_blocks(items), kernel, device.dtype, image)
    memory, cycles = await device.rtl_write(pairs, kernel, image)
    assert np.array_equal(memory.image.read(0, MEMORY), expected.read(0, MEMORY))
    if bench.parameters["output"] == Output.WIDE:
        # a line of values an item, one of words every four
        assert cycles < count * 5 / 4 + 20, cycles
    assert memory.lines == written.lines


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("dtype", "output", "stall"),
    [
        ("bf16", Output.WIDE, 0.0),
        ("int8", Output.WIDE, 0.3),
        ("bf16", Output.NARROW, 0.3),
        ("int8", Output.NARROW, 0.0),
    ],
)
def test_writer(simulator: str, dtype: str, output: Output, stall: float) -> None:
    run_bench(
        Writer(make_config(dtype=dtype)),
        module=__name__,
        simulator=simulator,
        parameters={"dtype": dtype, "output": int(output), "stall": stall, "pes": 1},
    )
