"""The scanner: reads the block words of compressed fibers."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import (
    ADDRESS_BITS,
    COORDINATE_BITS,
    LINE_SHIFT,
    POSITION_BITS,
    WIDE_BITS,
    ChipConfig,
)
from ..format import ENTRY_WORDS, LINE_WORDS, OPEN_STRIDE, PACKED_STRIDE, WORD_BYTES
from ..queue import SkidBuffer
from ..tokens import AHEAD, BOUND, FIBER_BLOCKS, FIBER_REQUEST, LEVEL_FAULT
from .block_reader import BlockReader
from .gather import Gather, Known
from .pool import pool_client, ring

WORD_SHIFT = (WORD_BYTES - 1).bit_length()
WORD_ADDRESS_BITS = ADDRESS_BITS - WORD_SHIFT
LINE_WORD_BITS = (LINE_WORDS - 1).bit_length()

ENTRY = [Known(WORD_SHIFT + 1, WORD_BYTES * (n % 2)) for n in range(ENTRY_WORDS)]
"""The words of a position entry, which is aligned to two words."""


class Scanner(wiring.Component):
    """Answers each request with the blocks of its fiber, two words per cycle.

    Requests are answered in order; an ``empty`` one gives an empty fiber with child 0, without a
    read. There are no bubbles between fibers. Position entries are read up to ``config.fifo_depth``
    fibers ahead of the walk, which itself runs ahead of the output by its stream's depth and ring.
    From a request to its first blocks it takes 15 cycles and the memory's latency twice.

    Words below ``bound`` may be skipped, a line of them per cycle: see `BlockReader`, for ``ahead``
    too.

    With ``flush``, requested fibers that are not walked yet become empty: they are stale.

    ``fault`` reports errors in the fibers that were read, and stays until reset: ``tensor`` for a
    table that runs backwards (its fiber counts as empty), an empty mask, or blocks that do not
    ascend; ``coordinate`` for a coordinate at or above ``size``. So a fiber without a fault is
    never longer than ``size`` allows.

    ``table`` and ``blocks`` are byte addresses of lines; their low bits are ignored. Addresses wrap
    at 2^32. The settings must be constant while requests are in flight, and for two cycles before.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(FIBER_REQUEST)),
                "o": Out(stream.Signature(FIBER_BLOCKS)),
                "flush": In(1),
                "open": In(1),
                "table": In(ADDRESS_BITS),
                "blocks": In(ADDRESS_BITS),
                "size": In(COORDINATE_BITS + 1),
                "bound": In(BOUND),
                "ahead": Out(AHEAD),
                "position_ring": In(ring(config)),
                "block_ring": In(ring(config)),
                "position_pool": Out(pool_client(config)),
                "block_pool": Out(pool_client(config)),
                "fault": Out(LEVEL_FAULT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.positions = positions = Gather(self._config, ENTRY)
        m.submodules.reader = reader = BlockReader(self._config)
        wiring.connect(m, positions.pool, wiring.flipped(self.position_pool))
        wiring.connect(m, reader.pool, wiring.flipped(self.block_pool))
        wiring.connect(m, reader.o, wiring.flipped(self.o))
        m.d.comb += [
            positions.ring.eq(self.position_ring),
            reader.ring.eq(self.block_ring),
            reader.size.eq(self.size),
            reader.bound.eq(self.bound),
            self.ahead.eq(reader.ahead),
        ]

        fiber = data.StructLayout(
            {"start": WORD_ADDRESS_BITS, "length": WIDE_BITS, "child": POSITION_BITS}
        )
        m.submodules.fibers = fibers = SkidBuffer(fiber, self._config.fifo_depth)
        self._locate(m, positions.i)
        backwards = self._measure(m, positions.o, fibers.i)
        self._walk(m, fibers.o, reader.i)
        m.d.comb += [
            self.fault.coordinate.eq(reader.fault.coordinate),
            self.fault.tensor.eq(reader.fault.tensor | backwards),
        ]
        return m

    def _locate(self, m: Module, entries: Any) -> None:
        """Compute the position entry's address: request -> address."""
        busy = Signal()
        empty = Signal()
        # Entries are aligned to two words: those start at even words `first` and `third`.
        first = Signal(WORD_ADDRESS_BITS - 1, reset_less=True)
        third = Signal(WORD_ADDRESS_BITS - 1, reset_less=True)
        position = self.i.payload.position
        table = Cat(Const(0, LINE_SHIFT - WORD_SHIFT - 1), self.table[LINE_SHIFT:])
        offset = Mux(
            self.open,
            position << (OPEN_STRIDE // PACKED_STRIDE - 1),
            position,
        )
        m.d.comb += [self.i.ready.eq(~busy | entries.ready), entries.valid.eq(busy)]
        with m.If(self.i.ready):
            m.d.sync += busy.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                empty.eq(self.i.payload.empty),
                first.eq(table + offset),
                third.eq(table + offset + 1),
            ]
        address = entries.payload.address
        m.d.comb += [
            entries.payload.valid.eq((~empty).replicate(ENTRY_WORDS)),
            address[0].eq(Cat(Const(0, WORD_SHIFT + 1), first)),
            address[1].eq(Cat(Const(1 << WORD_SHIFT, WORD_SHIFT + 1), first)),
            address[2].eq(Cat(Const(0, WORD_SHIFT + 1), third)),
        ]

    def _measure(self, m: Module, entries: Any, fibers: Any) -> Signal:
        """Turn entries into first words and lengths; return whether a table ran backwards."""
        first, child, end = (entries.payload[n] for n in range(ENTRY_WORDS))
        busy = Signal()
        fiber = Signal.like(fibers.payload, reset_less=True)
        length = Signal(WIDE_BITS, reset_less=True)
        backwards = Signal()
        fault = Signal()
        m.d.comb += [
            Cat(length, backwards).eq(end - first),
            entries.ready.eq(~busy | fibers.ready),
            fibers.valid.eq(busy),
            fibers.payload.eq(fiber),
        ]
        with m.If(entries.ready):
            m.d.sync += busy.eq(entries.valid)
        with m.If(entries.valid & entries.ready):
            blocks = Cat(Const(0, LINE_SHIFT - WORD_SHIFT), self.blocks[LINE_SHIFT:])
            m.d.sync += [
                fiber.start.eq(blocks + first),
                fiber.length.eq(Mux(backwards, 0, length)),
                fiber.child.eq(child),
            ]
            with m.If(backwards):
                m.d.sync += fault.eq(1)
        return fault

    def _walk(self, m: Module, fibers: Any, runs: Any) -> None:
        """Pass the fibers on, flushed ones as empty fibers."""
        # Fibers that are requested and not walked yet; the first of them may be flushed.
        ahead = Signal(range(2 * self._config.fifo_depth + 2 * self._config.stream_depth + 16))
        flushed = Signal.like(ahead)
        empty = Signal()
        begins = Signal()
        pending = (ahead - begins)[: len(ahead)]
        m.d.comb += [begins.eq(fibers.valid & fibers.ready), empty.eq(flushed != 0)]
        m.d.sync += ahead.eq(pending + (self.i.valid & self.i.ready))
        with m.If(self.flush):
            m.d.sync += flushed.eq(pending)
        with m.Elif(begins & empty):
            m.d.sync += flushed.eq(flushed - 1)
        m.d.comb += [
            runs.valid.eq(fibers.valid),
            fibers.ready.eq(runs.ready),
            runs.payload.line.eq(fibers.payload.start[LINE_WORD_BITS:]),
            runs.payload.first.eq(fibers.payload.start[:LINE_WORD_BITS]),
            runs.payload.length.eq(Mux(empty, 0, fibers.payload.length)),
            runs.payload.child.eq(fibers.payload.child),
        ]
