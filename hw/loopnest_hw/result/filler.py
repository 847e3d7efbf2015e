"""The filler: gives untouched coordinates of full result fibers the semiring's zero."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..config import COORDINATE_BITS, LANES, WIDE_BITS
from ..register import payload_register

_LANE_BITS = LANES.bit_length() - 1
_COUNT_BITS = COORDINATE_BITS + 1 - _LANE_BITS
"""Bits of a block count."""


class Filler(wiring.Component):
    """Completes each result fiber to ``size`` coordinates, or passes items unchanged.

    With ``full``, missing blocks are inserted and masks completed, up to ``size`` in the last
    block; untouched lanes are ``fill``. A fiber of size 0 is one item with mask 0. Blocks from
    ``size`` on pass unchanged; items with mask 0 and without ``last`` are dropped.

    The latency is one cycle; one block leaves per cycle.

    Members
    -------
    full, size, fill : In
        Constant from the cycle before the first block on.
    i : In(stream.Signature(tokens.RESULT_BLOCK))
        Blocks, ascending in a fiber.
    o : Out(stream.Signature(tokens.RESULT_BLOCK))
    """

    full: In(1)
    size: In(COORDINATE_BITS + 1)
    fill: In(WIDE_BITS)
    i: In(stream.Signature(tokens.RESULT_BLOCK))
    o: Out(stream.Signature(tokens.RESULT_BLOCK))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        arriving, leaving = self.i.payload, payload_register(m, self.o)

        blocks = Signal(_COUNT_BITS)
        last_mask = Signal(LANES)
        m.d.sync += [
            blocks.eq((self.size + (LANES - 1)) >> _LANE_BITS),
            # If the size is a multiple of 16, all lanes of the last block are set.
            last_mask.eq(
                Mux(
                    self.size[:_LANE_BITS].any(),
                    (Const(1, LANES) << self.size[:_LANE_BITS]) - 1,
                    ~0,
                )
            ),
        ]

        following = Signal(_COUNT_BITS)  # the fiber's next block
        passed = Signal()  # the arriving block has been passed: only its `last` is left
        has_block = arriving.mask.any() & ~passed
        inside = following < blocks
        closing = following + 1 >= blocks

        passes = Signal()  # the arriving block leaves
        fills = Signal()  # a missing block leaves
        ends = Signal()  # an item without lanes leaves, to end the fiber
        last = Signal()
        done = Signal()  # the arriving item is done
        m.d.comb += [
            passes.eq(has_block & ((arriving.coordinate == following) | ~inside)),
            fills.eq(inside & ~passes & (has_block | arriving.last)),
            ends.eq(~inside & ~has_block & arriving.last),
            last.eq(arriving.last & (ends | (closing & (passes | ~has_block)))),
            done.eq(last | ~(fills | (passes & arriving.last))),
        ]

        room = ~self.o.valid | self.o.ready
        m.d.comb += self.i.ready.eq(room & (done | ~self.full))
        with m.If(room):
            m.d.sync += [
                self.o.valid.eq(self.i.valid & (passes | fills | ends | ~self.full)),
                leaving.eq(arriving),
            ]
            with m.If(self.full):
                m.d.sync += [leaving.last.eq(last), leaving.final.eq(last & arriving.final)]
                with m.If(inside):
                    m.d.sync += leaving.mask.eq(Mux(closing, last_mask, ~0))
                    m.d.sync += leaving.coordinate.eq(following)
                for lane in range(LANES):
                    with m.If(inside & ~(passes & arriving.mask[lane])):
                        m.d.sync += leaving.value[lane].eq(self.fill)
            with m.If(self.i.valid & self.full):
                m.d.sync += passed.eq((passed | passes) & ~done)
                with m.If(done & arriving.last):
                    m.d.sync += following.eq(0)
                with m.Elif(inside & (passes | fills)):
                    m.d.sync += following.eq(following + 1)
        return m
