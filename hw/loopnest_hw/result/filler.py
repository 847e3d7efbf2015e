"""The filler: gives untouched coordinates of full result fibers the semiring's zero."""

from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .. import tokens
from ..config import COORDINATE_BITS, LANES, WIDE_BITS
from ..formal import FORMAL

_LANE_BITS = LANES.bit_length() - 1
_COUNT_BITS = COORDINATE_BITS + 1 - _LANE_BITS
"""Bits of a block count."""


class Filler(wiring.Component):
    """Completes each result fiber to ``size`` coordinates, or passes items unchanged.

    With ``full``, missing blocks are inserted and masks completed, up to ``size`` in the last
    block; untouched lanes are ``fill``. A fiber of size 0 is one item with mask 0. Blocks from
    ``size`` on pass unchanged; of items with mask 0 and without ``last``, only a final one passes.

    A block leaves in the cycle in which it arrives, one per cycle.

    Members
    -------
    full, size, fill : In
        Constant from two cycles before the first block on.
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
        arriving, leaving = self.i.payload, self.o.payload

        def block_count(size: Value) -> Value:
            return ((size + (LANES - 1)) >> _LANE_BITS)[:_COUNT_BITS]

        def lanes_of_last(size: Value) -> Value:
            # If the size is a multiple of 16, all lanes of the last block are set.
            ragged = (Const(1, LANES) << size[:_LANE_BITS]) - 1
            return Mux(size[:_LANE_BITS].any(), ragged, ~0)[:LANES]

        blocks = Signal(_COUNT_BITS)
        last_mask = Signal(LANES, init=~0)
        m.d.sync += [blocks.eq(block_count(self.size)), last_mask.eq(lanes_of_last(self.size))]
        following = Signal(_COUNT_BITS)  # the fiber's next block
        # Registers, since comparisons would lengthen the path to `i.ready`.
        inside = Signal()  # following < blocks
        closing = Signal(init=1)  # following + 1 >= blocks
        passed = Signal()  # the arriving block has been passed: only its `last` is left
        if platform == FORMAL:
            # The contract: the settings are constant.
            settings = Cat(self.size, self.full, self.fill)
            before = Signal.like(settings)
            earlier = Signal.like(settings)
            m.d.sync += [before.eq(settings), earlier.eq(before)]
            size_before, size_earlier = (past[: len(self.size)] for past in (before, earlier))
            most = 1 << (COORDINATE_BITS - _LANE_BITS)  # blocks
            m.d.comb += [
                Assume(~self.i.valid | ((settings == before) & (before == earlier))),
                Assume(self.size <= 1 << COORDINATE_BITS),
                Assert(block_count(size_before) <= most),
                Assert(blocks == block_count(size_before)),
                Assert(last_mask == lanes_of_last(size_before)),
                Assert((following != 0) | (inside == (block_count(size_earlier) != 0))),
                Assert((following != 0) | (closing == (block_count(size_earlier) <= 1))),
                # `following` never wraps.
                Assert(~inside | (following < most)),
                Assert((following != most - 1) | closing),
            ]

        has_block = arriving.mask.any() & ~passed

        passes = Signal()  # the arriving block leaves
        fills = Signal()  # a missing block leaves
        ends = Signal()  # an item without lanes leaves, to end the fiber
        closes = Signal()  # an item without lanes leaves, to end the nest but no fiber
        last = Signal()
        done = Signal()  # the arriving item is done
        m.d.comb += [
            passes.eq(has_block & ((arriving.coordinate == following) | ~inside)),
            fills.eq(inside & ~passes & (has_block | arriving.last)),
            ends.eq(~inside & ~has_block & arriving.last),
            closes.eq(arriving.final & ~arriving.last & ~has_block),
            last.eq(arriving.last & (ends | (closing & (passes | ~has_block)))),
            done.eq(last | ~(fills | (passes & arriving.last))),
        ]

        moves = Signal()
        m.d.comb += [
            self.o.valid.eq(self.i.valid & (passes | fills | ends | closes | ~self.full)),
            leaving.eq(arriving),
            moves.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(moves & (done | ~self.full)),
        ]
        with m.If(self.full):
            m.d.comb += [leaving.last.eq(last), leaving.final.eq((last & arriving.final) | closes)]
            with m.If(inside & ~closes):
                m.d.comb += leaving.mask.eq(Mux(closing, last_mask, ~0))
                m.d.comb += leaving.coordinate.eq(following)
            for lane in range(LANES):
                with m.If(inside & ~(passes & arriving.mask[lane])):
                    m.d.comb += leaving.value[lane].eq(self.fill)
        with m.If(following == 0):
            m.d.sync += [inside.eq(blocks != 0), closing.eq(blocks <= 1)]
        with m.If(self.i.valid & self.full & moves):
            m.d.sync += passed.eq((passed | passes) & ~done)
            with m.If(done & arriving.last):
                m.d.sync += [following.eq(0), inside.eq(blocks != 0), closing.eq(blocks <= 1)]
            with m.Elif(inside & (passes | fills)):
                m.d.sync += [
                    following.eq(following + 1),
                    inside.eq(~closing),
                    closing.eq(following + 2 >= blocks),
                ]
        return m
