"""A scanner: the block words of compressed fibers."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import (
    ADDRESS_BITS,
    COORDINATE_BITS,
    LANES,
    LINE_BYTES,
    POSITION_BITS,
    WIDE_BITS,
    ChipConfig,
)
from ..format import (
    BLOCK_COORDINATE_BITS,
    BLOCK_MASK_BITS,
    ENTRY_WORDS,
    OPEN_STRIDE,
    PACKED_STRIDE,
    WORD_BYTES,
)
from ..queue import Queue
from ..tokens import BLOCK_WORD, FIBER_BLOCKS, FIBER_REQUEST, LEVEL_FAULT, PAIR
from .gather import Gather
from .pool import pool_client, ring

WORD_SHIFT = (WORD_BYTES - 1).bit_length()
WORD_ADDRESS_BITS = ADDRESS_BITS - WORD_SHIFT
LINE_SHIFT = (LINE_BYTES - 1).bit_length()
LANE_BITS = (LANES - 1).bit_length()


class Scanner(wiring.Component):
    """Answers each request with the blocks of its fiber, two words a cycle.

    Requests are answered in order; an ``empty`` one gives an empty fiber without a read, whose
    child is 0. No bubble separates fibers. Position entries are read up to ``config.fifo_depth``
    fibers ahead of the walk, which itself runs ahead of the output by its stream's depth and ring.
    From a request to its first blocks it takes 19 cycles and the memory's latency twice.

    With ``flush`` the fibers asked for that are not walked yet turn empty: nobody wants them.

    ``fault`` tells what was found wrong in the fibers that were read, two cycles after the word
    (or the position entry) has passed, and stays until reset: ``tensor`` for a table that runs
    backwards (its fiber counts as empty), an empty mask, or blocks that do not ascend;
    ``coordinate`` for one at or above ``size``. So no fiber without a fault is longer than ``size``
    allows.

    ``table`` and ``blocks`` are byte addresses of lines; their low bits are ignored. Addresses wrap
    at 2^32. The settings hold while requests are under way, and two cycles before.
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
                "position_ring": In(ring(config)),
                "block_ring": In(ring(config)),
                "position_pool": Out(pool_client(config)),
                "block_pool": Out(pool_client(config)),
                "fault": Out(LEVEL_FAULT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.positions = positions = Gather(self._config, lanes=ENTRY_WORDS)
        m.submodules.words = words = Gather(self._config, lanes=PAIR)
        wiring.connect(m, positions.pool, wiring.flipped(self.position_pool))
        wiring.connect(m, words.pool, wiring.flipped(self.block_pool))
        m.d.comb += [positions.ring.eq(self.position_ring), words.ring.eq(self.block_ring)]

        fiber = data.StructLayout(
            {"start": WORD_ADDRESS_BITS, "length": WIDE_BITS, "child": POSITION_BITS}
        )
        pairs = data.StructLayout({"count": range(PAIR + 1), "last": 1, "child": POSITION_BITS})
        m.submodules.fibers = fibers = Queue(fiber, self._config.fifo_depth)
        # As many as the gather can hold, so that this queue never holds it up.
        m.submodules.pairs = walked = Queue(pairs, self._config.stream_depth + 4)
        self._locate(m, positions.i)
        self._measure(m, positions.o, fibers.i)
        self._walk(m, fibers.o, words.i, walked.i)
        self._count(m, words.o, walked.o)
        self._check(m)
        return m

    def _locate(self, m: Module, entries: Any) -> None:
        """Find the position entry's address: request -> address."""
        busy = Signal()
        empty = Signal()
        # Entries are aligned to two words: those start at even words `first` and `third`.
        first = Signal(WORD_ADDRESS_BITS - 1)
        third = Signal(WORD_ADDRESS_BITS - 1)
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

    def _measure(self, m: Module, entries: Any, fibers: Any) -> None:
        """Turn entries into the fibers' first words and lengths."""
        first, child, end = (entries.payload[n] for n in range(ENTRY_WORDS))
        busy = Signal()
        fiber = Signal.like(fibers.payload)
        length = Signal(WIDE_BITS)
        backwards = Signal()
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
                m.d.sync += self.fault.tensor.eq(1)

    def _walk(self, m: Module, fibers: Any, words: Any, walked: Any) -> None:
        """Ask for a fiber's words, two a cycle."""
        # Fibers that are asked for and not walked yet; the first of them may be flushed.
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

        busy = Signal()
        address = [Signal(WORD_ADDRESS_BITS, name=f"address_{n}") for n in range(PAIR)]
        left = Signal(WIDE_BITS)
        child = Signal(POSITION_BITS)
        last = Signal()
        fires = Signal()
        m.d.comb += [
            words.valid.eq(busy & walked.ready),
            walked.valid.eq(busy & words.ready),
            fires.eq(words.valid & words.ready),
            walked.payload.count.eq(Mux(last, left, PAIR)),
            walked.payload.last.eq(last),
            walked.payload.child.eq(child),
            fibers.ready.eq(~busy | (fires & last)),
        ]
        for n in range(PAIR):
            m.d.comb += [
                words.payload.valid[n].eq(left > n),
                words.payload.address[n].eq(address[n] << WORD_SHIFT),
            ]
        with m.If(fibers.ready):
            m.d.sync += [
                busy.eq(fibers.valid),
                left.eq(Mux(empty, 0, fibers.payload.length)),
                last.eq(empty | (fibers.payload.length <= PAIR)),
                child.eq(fibers.payload.child),
            ]
            m.d.sync += [address[n].eq(fibers.payload.start + n) for n in range(PAIR)]
        with m.Elif(fires):
            m.d.sync += [left.eq(left - PAIR), last.eq(left <= 2 * PAIR)]
            m.d.sync += [address[n].eq(address[n] + PAIR) for n in range(PAIR)]

    def _count(self, m: Module, words: Any, walked: Any) -> None:
        """Put words, counts and ranks together."""
        block = [data.View(BLOCK_WORD, words.payload[n]) for n in range(PAIR)]
        out = self.o.payload
        rank = Signal(COORDINATE_BITS)
        ones = [Signal(range(BLOCK_MASK_BITS * (n + 1) + 1), name=f"ones_{n}") for n in range(PAIR)]
        loads = Signal()
        m.d.comb += [
            loads.eq((~self.o.valid | self.o.ready) & words.valid & walked.valid),
            words.ready.eq(loads),
            walked.ready.eq(loads),
        ]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(loads)
        with m.If(loads):
            m.d.sync += [
                out.word.eq(words.payload),
                out.count.eq(walked.payload.count),
                out.last.eq(walked.payload.last),
                out.child.eq(walked.payload.child),
            ]
            for n in range(PAIR):
                masks = Cat(block[k].mask for k in range(n + 1))
                m.d.sync += ones[n].eq(sum(masks[k] for k in range(len(masks))))
        m.d.comb += out.rank[0].eq(rank)
        m.d.comb += [out.rank[n].eq(rank + ones[n - 1]) for n in range(1, PAIR)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += rank.eq(Mux(out.last, 0, rank + ones[PAIR - 1]))

    def _check(self, m: Module) -> None:
        """Look at the words that are handed on."""
        # The largest coordinate, as block and lanes.
        most = Signal(COORDINATE_BITS)
        none = Signal()
        lanes = Signal(LANES)
        m.d.sync += [
            most.eq(self.size - 1),
            none.eq(self.size == 0),
            lanes.eq((2 << most[:LANE_BITS]) - 1),
        ]
        out = self.o.payload
        before = Signal(BLOCK_COORDINATE_BITS)
        inside = Signal()  # a word of the same fiber came before
        passes = self.o.valid & self.o.ready
        empty, descends, above, beyond = (
            Signal(PAIR, name=name) for name in ("empty", "descends", "above", "beyond")
        )
        last_block = most[LANE_BITS:]
        for n in range(PAIR):
            word = out.word[n]
            here = passes & (out.count > n)
            previous, known = (out.word[n - 1].coordinate, 1) if n else (before, inside)
            m.d.sync += [
                empty[n].eq(here & (word.mask == 0)),
                descends[n].eq(here & known & (word.coordinate <= previous)),
                above[n].eq(here & (none | (word.coordinate > last_block))),
                beyond[n].eq(here & (word.coordinate == last_block) & (word.mask & ~lanes).any()),
            ]
        with m.If(passes):
            m.d.sync += [before.eq(out.word[PAIR - 1].coordinate), inside.eq(~out.last)]
        with m.If(empty.any() | descends.any()):
            m.d.sync += self.fault.tensor.eq(1)
        with m.If(above.any() | beyond.any()):
            m.d.sync += self.fault.coordinate.eq(1)
