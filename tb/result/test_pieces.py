"""Bench of the writer of one of several PEs: its fibers lie in pieces of the result's regions."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from loopnest_hw.config import LANES, make_config
from loopnest_hw.descriptor import PIECE_FIBERS, ROOM_BLOCKS, ROOM_VALUES, Output
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.result.writer import Writer
from tb.harness import SIMULATORS, bench, run_bench
from tb.result.items import noisy, paired, random_blocks, silenced, to_blocks, to_items
from tb.result.test_writer import BLOCKS, MEMORY, TABLE, VALUES, Device, make_kernel, new_image
from tb.streams import encode

MAX_PIECES = 32
"""Pieces of each region; all fit."""


class Rooms:
    """Grants pieces of both regions at random places, some cycles after they are asked for."""

    def __init__(self, dut: Any, rng: random.Random, *, sizes: dict[str, int]) -> None:
        self._dut = dut
        self._rng = rng
        self.free = {
            name: rng.sample(range(MAX_PIECES), MAX_PIECES) for name in ("values", "blocks")
        }
        self.sizes = sizes
        self.granted: dict[str, list[int]] = {"values": [], "blocks": []}
        for name in self.granted:
            cocotb.start_soon(self._serve(name))

    async def _serve(self, name: str) -> None:
        ask, granted, start = (
            getattr(self._dut, f"room__{name}__{port}") for port in ("ask", "granted", "start")
        )
        while True:
            granted.value = 0
            await RisingEdge(self._dut.clk)
            if self._dut.rst.value or not int(ask.value) or self._rng.random() < 0.5:
                continue
            piece = self.free[name].pop() * self.sizes[name]
            self.granted[name].append(piece)
            start.value, granted.value = piece, 1
            await RisingEdge(self._dut.clk)
            assert int(ask.value), f"{name}: the request was withdrawn"


@cocotb.test()
async def in_pieces(dut: Any) -> None:
    """Fibers lie in pieces of the regions; a piece is left when a fiber might not fit."""
    rng = bench.rng()
    device = Device(dut, bench.parameters["stall"])
    most = {"values": 2 * ROOM_VALUES, "blocks": ROOM_BLOCKS}
    share = {"rows": 1, "fiber_values": 2, "fiber_blocks": 1}
    await bench.start(dut)
    dut.share.value = encode(kernel_layout(device.config).members["share"], share)
    pieces = {name: PIECE_FIBERS * size for name, size in most.items()}
    rooms = Rooms(dut, rng, sizes=pieces)
    # in a fiber at most four blocks: all of its room; and some fibers with no block
    blocks = random_blocks(rng, rng.sample(range(200), 120), size=64, most=4)
    items = paired(to_items(blocks), rng)
    if bench.parameters["silent"]:
        items = silenced(items)
    kernel = make_kernel()
    memory, _ = await device.rtl_write(noisy(items, rng), kernel, new_image(rng))
    assert not int(dut.full.value)

    narrow = bench.parameters["output"] == Output.NARROW
    size = device.dtype.narrow_bytes if narrow else 4
    read = memory.image.read
    used = {"values": 0, "blocks": 0}
    begin = 0
    for last in np.flatnonzero(blocks.last):
        fiber = blocks[begin : last + 1]
        begin = int(last) + 1
        words = (fiber.coordinate << LANES | fiber.mask)[fiber.mask != 0]
        values = fiber.value[fiber.lanes] & (1 << 8 * size) - 1
        address = TABLE + 16 * int(fiber.fiber[0])
        first, child, end, zero = read(address, 16).view("<u4").tolist()
        assert (end - first, zero) == (len(words), 0)
        got = read(BLOCKS + 4 * first, 4 * len(words)).view("<u4")
        assert np.array_equal(got, words)
        stored = read(VALUES + size * child, size * len(values)).view(f"<u{size}")
        assert np.array_equal(stored, values)
        for name, place, count in (
            ("values", child, len(values)),
            ("blocks", first, len(words)),
        ):
            used[name] += count
            if count:
                start = place // pieces[name] * pieces[name]
                assert start in rooms.granted[name]
                assert place + count <= start + pieces[name]
    for name, count in used.items():
        # of a piece, all but the room of one fiber is used
        enough = -(-count // (pieces[name] - most[name])) + 1
        assert 1 < len(rooms.granted[name]) <= enough


@cocotb.test()
async def beyond_every_region(dut: Any) -> None:
    """Pieces that begin at 2^32, when the pools are used up: nothing is written, which is told."""
    device = Device(dut)
    await bench.start(dut)
    share = {"rows": 1, "fiber_values": 1 << 27, "fiber_blocks": 1 << 29}
    dut.share.value = encode(kernel_layout(device.config).members["share"], share)
    rooms = Rooms(dut, bench.rng(), sizes={"values": 1 << 32, "blocks": 1 << 32})
    rooms.free = {"values": [1], "blocks": [1]}
    item = {"mask": 0xFFFF, "value": [1] * 16, "fiber": 3}
    items = [item | {"coordinate": n, "last": n == 8, "final": n == 8} for n in range(9)]
    image = new_image(bench.rng())
    memory, _ = await device.rtl_write(to_items(to_blocks(items)), make_kernel(), image)
    assert int(dut.full.value) == 3
    for begin, end in ((0, TABLE), (BLOCKS, MEMORY)):
        size = end - begin
        assert np.array_equal(memory.image.read(begin, size), image.read(begin, size))


@cocotb.test()
async def too_long(dut: Any) -> None:
    """A fiber that leaves its piece is reported."""
    device = Device(dut)
    rng = bench.rng()
    share = {"rows": 1, "fiber_values": 1, "fiber_blocks": 1}
    await bench.start(dut)
    dut.share.value = encode(kernel_layout(device.config).members["share"], share)
    sizes = {"values": PIECE_FIBERS * ROOM_VALUES, "blocks": PIECE_FIBERS * ROOM_BLOCKS}
    Rooms(dut, rng, sizes=sizes)
    for lanes, count, full in ((16, 8, 0), (16, 9, 2), (1, 32, 0), (1, 33, 1)):
        item = {"mask": (1 << lanes) - 1, "value": [1] * 16, "fiber": 0}
        ends = [n == count - 1 for n in range(count)]
        items = [item | {"coordinate": n, "last": e, "final": e} for n, e in enumerate(ends)]
        await device.rtl_write(to_items(to_blocks(items)), make_kernel(), new_image(rng))
        assert int(dut.full.value) == full


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("dtype", "output", "stall", "silent"),
    [("int8", Output.NARROW, 0.0, True), ("bf16", Output.WIDE, 0.3, False)],
)
def test_pieces(simulator: str, dtype: str, output: Output, stall: float, silent: bool) -> None:
    run_bench(
        Writer(make_config(dtype=dtype, pes=2)),
        module=__name__,
        simulator=simulator,
        parameters={
            "dtype": dtype,
            "output": int(output),
            "stall": stall,
            "silent": silent,
            "pes": 2,
        },
    )
