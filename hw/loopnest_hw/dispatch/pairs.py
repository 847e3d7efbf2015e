"""Walks the lanes of blocks, two at a time."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES
from ..unary import at_least

PAIR_LANES = 2
"""Lanes of a step."""


def lanes_of(shape: ShapeLike) -> data.StructLayout:
    """A block's lanes, and what rides along. With ``whole`` they are one step."""
    return data.StructLayout({"lanes": LANES, "whole": 1, "rider": shape})


def pair_of(shape: ShapeLike) -> data.StructLayout:
    """A step: its ``lanes``, of which ``one[0]`` is the lowest one and ``one[1]`` the other.

    ``one`` is 0 for a lane that the step does not have, and for a whole block. ``end``: the block's
    last step.
    """
    return data.StructLayout(
        {
            "lanes": LANES,
            "one": data.ArrayLayout(LANES, PAIR_LANES),
            "end": 1,
            "rider": shape,
        }
    )


class Pairs(wiring.Component):
    """Turns each block into steps of its two lowest remaining lanes.

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
        before = at_least(m, "before", lanes, PAIR_LANES)[:-1]
        rest = Signal(LANES)
        m.d.comb += [
            rest.eq(lanes & Cat(number[PAIR_LANES] for number in before)),
            step.end.eq(block.whole | ~rest.any()),
            step.lanes.eq(Mux(block.whole, lanes, lanes & ~rest)),
            step.rider.eq(block.rider),
            self.i.ready.eq(~self.o.valid | (self.o.ready & step.end)),
        ]
        for n in range(PAIR_LANES):
            here = Cat(number[n] & ~number[n + 1] for number in before)
            m.d.comb += step.one[n].eq(Mux(block.whole, 0, lanes & here))
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), block.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += lanes.eq(rest)
        return m
