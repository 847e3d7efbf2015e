"""Walks the lanes of blocks: one, one pair or two pairs at a time."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES
from ..unary import at_least

PARTS = 2
"""Parts of a step."""


def lanes_of(shape: ShapeLike) -> data.StructLayout:
    """A block's lanes, and what rides along. With ``whole`` they are one step; with ``wide`` a part
    of a step is two lanes, otherwise one; with ``alone`` a step has one lane, the first part's.
    """
    return data.StructLayout({"lanes": LANES, "whole": 1, "wide": 1, "alone": 1, "rider": shape})


def pair_of(shape: ShapeLike) -> data.StructLayout:
    """A step: its ``lanes``, and the ``first`` and ``last`` one of each part.

    These are 0 for a part that the step does not have, and for a whole block. ``end``: the block's
    last step.
    """
    return data.StructLayout(
        {
            "lanes": LANES,
            "first": data.ArrayLayout(LANES, PARTS),
            "last": data.ArrayLayout(LANES, PARTS),
            "end": 1,
            "rider": shape,
        }
    )


class Pairs(wiring.Component):
    """Turns each block into steps of its two lowest remaining lanes, of four if it is ``wide``, or
    of one if it is ``alone``. A block is not both.

    One step per cycle; a block without lanes, or a ``whole`` one, is one step. The latency is one
    cycle.
    """

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__(
            {
                "i": In(stream.Signature(lanes_of(shape))),
                "o": Out(stream.Signature(pair_of(shape))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        block = Signal(lanes_of(self._shape), reset_less=True)
        step = self.o.payload
        lanes = block.lanes  # those that remain
        *before, total = at_least(m, "before", lanes, 2 * PARTS)
        rest = Signal(LANES)
        behind = [
            Mux(block.wide, number[2 * PARTS], number[PARTS] | (number[1] & block.alone))
            for number in before
        ]
        m.d.comb += [
            rest.eq(lanes & Cat(behind)),
            step.end.eq(block.whole | ~rest.any()),
            step.lanes.eq(Mux(block.whole, lanes, lanes & ~rest)),
            step.rider.eq(block.rider),
            self.i.ready.eq(~self.o.valid | (self.o.ready & step.end)),
        ]
        ranked = [
            lanes & Cat(number[n] & ~number[n + 1] for number in before) for n in range(2 * PARTS)
        ]
        for n in range(PARTS):
            low, high = ranked[2 * n : 2 * n + 2]
            last = Mux(total[2 * n + 2], high, low)
            absent = block.whole if n == 0 else block.whole | block.alone
            m.d.comb += [
                step.first[n].eq(Mux(absent, 0, Mux(block.wide, low, ranked[n]))),
                step.last[n].eq(Mux(absent, 0, Mux(block.wide, last, ranked[n]))),
            ]
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), block.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += lanes.eq(rest)
        return m
