"""The all-ones fiber: every coordinate of a dense index, without memory reads."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, LANES, PAIR, PAIR_COORDINATES
from ..format import BLOCK_COORDINATE_BITS, PAIR_BITS
from ..queue import Queue
from ..tokens import FIBER_BLOCKS, FIBER_REQUEST

WITHIN_BITS = (PAIR_COORDINATES - 1).bit_length()
"""Bits of a coordinate within its pair of blocks."""

TURNS = data.StructLayout({"head": PAIR_BITS, "between": PAIR_BITS})
"""The order of an all-ones fiber: the coordinates of its first ``head`` pairs of blocks come one by
one, with ``between`` of the other pairs between two of them. 0 and 0: it ascends.
"""

ENDING = data.StructLayout(
    {
        "pair": PAIR_BITS,
        "alone": 1,
        "lane": WITHIN_BITS,
        "count": range(PAIR + 1),
        "last": 1,
        "cut": PAIR,
    }
)
"""An item of the fiber: the pair's number; ``alone``: it is one block, of that lane of the pair;
``cut[n]``: block n is the last one and truncated.
"""


class Ones(wiring.Component):
    """Answers every request with a fiber of the coordinates 0 to ``size - 1``.

    Two blocks per cycle, the first one per cycle after the request; ``rank`` and ``child`` are 0.
    An ``empty`` request, or a size of 0, gives the empty fiber.

    With a head (`TURNS`), which does not have all pairs, each of its coordinates is an item, for a
    cycle. The first one comes first, the next one after ``between`` of the other pairs, and so on;
    those that are left come before the last pair. ``turns`` is constant while a fiber is sent.
    Golden function: `loopnest_sim.model.ones.ones`.
    """

    i: In(stream.Signature(FIBER_REQUEST))
    size: In(COORDINATE_BITS + 1)
    turns: In(TURNS)
    o: Out(stream.Signature(FIBER_BLOCKS))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.items = items = Queue(ENDING, 2)
        taken = Signal(WITHIN_BITS + PAIR_BITS)  # coordinates of the head
        others = Signal(PAIR_BITS)  # pairs behind it
        waiting = Signal(PAIR_BITS)  # of these, until the next coordinate of the head
        pair = Signal(PAIR_BITS)
        blocks = Signal(BLOCK_COORDINATE_BITS + 1)
        odd = Signal()
        empty = Signal()
        final = Signal()
        left = Signal()
        alone = Signal()
        item = items.i.payload
        m.d.comb += [
            blocks.eq((self.size + LANES - 1) >> 4),
            odd.eq(blocks[0]),
            pair.eq(self.turns.head + others),
            final.eq(pair == (blocks - 1) >> 1),
            left.eq(taken[WITHIN_BITS:] != self.turns.head),
            alone.eq(left & (final | ~waiting.any())),
            empty.eq(self.i.payload.empty | (blocks == 0)),
            items.i.valid.eq(self.i.valid),
            self.i.ready.eq(items.i.ready & item.last),
            item.pair.eq(Mux(alone, taken[WITHIN_BITS:], pair)),
            item.alone.eq(alone),
            item.lane.eq(taken),
            item.last.eq(empty | final & ~alone),
            item.count.eq(Mux(empty, 0, Mux(alone | final & odd, 1, PAIR))),
            item.cut[0].eq(final & odd),
            item.cut[1].eq(final & ~odd),
        ]
        with m.If(items.i.valid & items.i.ready):
            with m.If(item.last):
                m.d.sync += [taken.eq(0), others.eq(0), waiting.eq(0)]
            with m.Elif(alone):
                m.d.sync += [taken.eq(taken + 1), waiting.eq(self.turns.between)]
            with m.Else():
                m.d.sync += [others.eq(others + 1), waiting.eq(waiting - waiting.any())]

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
        sent = items.o.payload
        whole = [Mux(sent.cut[n], last_lanes, every_lane) for n in range(PAIR)]
        m.d.comb += [
            out.word[0].coordinate.eq(Cat(sent.alone & sent.lane[-1], sent.pair)),
            out.word[0].mask.eq(Mux(sent.alone, 1 << sent.lane[:-1], whole[0])),
            out.word[1].coordinate.eq(Cat(Const(1, 1), sent.pair)),
            out.word[1].mask.eq(whole[1]),
        ]
        return m
