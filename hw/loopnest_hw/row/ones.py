"""The all-ones fiber: every coordinate of a dense index, without memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, LANES
from ..format import BLOCK_COORDINATE_BITS
from ..tokens import FIBER_BLOCKS, FIBER_REQUEST, PAIR


class Ones(wiring.Component):
    """For every request, a fiber with all of the coordinates 0 to ``size - 1``.

    Two blocks a cycle, the first one in the cycle of the request; ``rank`` and ``child`` are 0.
    An ``empty`` request, or a size of 0, gives the empty fiber.
    """

    i: In(stream.Signature(FIBER_REQUEST))
    size: In(COORDINATE_BITS + 1)
    o: Out(stream.Signature(FIBER_BLOCKS))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pair = Signal(BLOCK_COORDINATE_BITS - 1)
        blocks = Signal(BLOCK_COORDINATE_BITS + 1)
        left = Signal(range((1 << BLOCK_COORDINATE_BITS) + 1))
        cut = Signal(LANES)
        empty = Signal()
        out = self.o.payload
        m.d.comb += [
            blocks.eq((self.size + LANES - 1) >> 4),
            left.eq(blocks - (pair << 1)),
            # Lanes of the last block: all of them where the size is a multiple of 16.
            cut.eq(Mux(self.size[:4] == 0, (1 << LANES) - 1, (1 << self.size[:4]) - 1)),
            empty.eq(self.i.payload.empty | (blocks == 0)),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & out.last),
            out.last.eq(empty | (left <= PAIR)),
            out.count.eq(Mux(empty, 0, Mux(left >= PAIR, PAIR, left))),
        ]
        for n in range(PAIR):
            m.d.comb += [
                out.word[n].coordinate.eq((pair << 1) + n),
                out.word[n].mask.eq(Mux(left == n + 1, cut, (1 << LANES) - 1)),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += pair.eq(Mux(out.last, 0, pair + 1))
        return m
