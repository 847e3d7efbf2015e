"""The all-ones fiber: every coordinate of a dense index, without memory reads."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, LANES
from ..format import BLOCK_COORDINATE_BITS
from ..queue import Queue
from ..tokens import FIBER_BLOCKS, FIBER_REQUEST, PAIR

PAIR_BITS = BLOCK_COORDINATE_BITS - 1

ENDING = data.StructLayout({"pair": PAIR_BITS, "count": range(PAIR + 1), "last": 1, "cut": PAIR})
"""An item of the fiber: the pair's number; ``cut[n]``: block n is the last one and truncated."""


class Ones(wiring.Component):
    """Answers every request with a fiber of the coordinates 0 to ``size - 1``.

    Two blocks per cycle, the first one per cycle after the request; ``rank`` and ``child`` are 0.
    An ``empty`` request, or a size of 0, gives the empty fiber.
    """

    i: In(stream.Signature(FIBER_REQUEST))
    size: In(COORDINATE_BITS + 1)
    o: Out(stream.Signature(FIBER_BLOCKS))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.items = items = Queue(ENDING, 2)
        pair = Signal(PAIR_BITS)
        blocks = Signal(BLOCK_COORDINATE_BITS + 1)
        odd = Signal()
        empty = Signal()
        final = Signal()
        item = items.i.payload
        m.d.comb += [
            blocks.eq((self.size + LANES - 1) >> 4),
            odd.eq(blocks[0]),
            final.eq(pair == (blocks - 1) >> 1),
            empty.eq(self.i.payload.empty | (blocks == 0)),
            items.i.valid.eq(self.i.valid),
            self.i.ready.eq(items.i.ready & item.last),
            item.pair.eq(pair),
            item.last.eq(empty | final),
            item.count.eq(Mux(empty, 0, Mux(final & odd, 1, PAIR))),
            item.cut[0].eq(final & odd),
            item.cut[1].eq(final & ~odd),
        ]
        with m.If(items.i.valid & items.i.ready):
            m.d.sync += pair.eq(Mux(item.last, 0, pair + 1))

        out = self.o.payload
        # Lanes of the last block: all of them if the size is a multiple of 16.
        last_lanes = Signal(LANES)
        every_lane = (1 << LANES) - 1
        m.d.comb += [
            last_lanes.eq(Mux(self.size[:4] == 0, every_lane, (1 << self.size[:4]) - 1)),
            self.o.valid.eq(items.o.valid),
            items.o.ready.eq(self.o.ready),
            out.last.eq(items.o.payload.last),
            out.count.eq(items.o.payload.count),
        ]
        for n in range(PAIR):
            m.d.comb += [
                out.word[n].coordinate.eq((items.o.payload.pair << 1) + n),
                out.word[n].mask.eq(Mux(items.o.payload.cut[n], last_lanes, every_lane)),
            ]
        return m
