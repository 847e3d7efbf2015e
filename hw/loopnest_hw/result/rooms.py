"""Room for compressed results: pieces of the result's regions, for several PEs' writers."""

from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import POSITION_BITS, ChipConfig
from ..descriptor import PIECE_FIBERS, ROOM_BLOCKS, ROOM_VALUES
from ..formal import FORMAL
from ..kernel import kernel_layout
from ..stream.round_robin import RoundRobin

FIBER_BITS = 32
"""Bits of the descriptor's ``share.fiber_values`` and ``share.fiber_blocks``."""

PIECE = wiring.Signature({"ask": Out(1), "granted": In(1), "start": In(POSITION_BITS + 1)})
"""A PE's requests for pieces of a region.

``ask``: it needs a piece; it holds up to and including the cycle of ``granted``, in which ``start``
is the index of the piece's first value or block word. In the next cycle it is for another piece.
"""

PIECES = wiring.Signature({"values": Out(PIECE), "blocks": Out(PIECE)})
"""A PE's requests for pieces of both regions."""


def shared_members(config: ChipConfig) -> dict[str, Any]:
    """Return the ports with which a unit of one of several PEs shares a result's regions."""
    if config.pes == 1:
        return {}
    return {"share": In(kernel_layout(config).members["share"]), "room": Out(PIECES)}


def longest_fiber(share: Any, *, blocks: bool) -> Value:
    """Return the most values, or block words, that a result fiber may have; not 0."""
    field, unit = share.fiber_values, ROOM_VALUES
    if blocks:
        field, unit = share.fiber_blocks, ROOM_BLOCKS
    return Cat(Const(0, unit.bit_length() - 1), Mux(field.any(), field, 1))


class Region(wiring.Component):
    """Hands out the pieces of a region: ascending, without gaps, the first one from 0 on.

    A piece has room for `PIECE_FIBERS` fibers. One that would begin above 2^32 begins at 2^32: it
    is above the end of every region.

    A piece is granted one cycle after ``ask`` or, if others ask, after one piece of each of them at
    most; a PE gets one every other cycle at most, all together one per cycle.

    Parameters
    ----------
    pes : int
    unit : int
        Values or block words in a unit of ``fiber``, a power of two.

    Members
    -------
    fiber : In(FIBER_BITS)
        The most that a fiber can have, in units; 0 counts as 1. Constant from the cycle before the
        first ``ask`` on.
    pe : array of `PIECE`, in
    """

    def __init__(self, pes: int, *, unit: int) -> None:
        self._pes = pes
        self._step = PIECE_FIBERS * unit
        super().__init__({"fiber": In(FIBER_BITS), "pe": In(PIECE).array(pes)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # sizes and starts are multiples of the step, and saturate
        low_bits = self._step.bit_length() - 1
        bits = POSITION_BITS - low_bits
        limit = 1 << bits
        size = Signal(bits + 1, reset_less=True)
        start = Signal(bits + 1)
        following = Signal(bits + 1)
        end = Signal(bits + 2)
        granted = Signal(self._pes)
        m.submodules.arbiter = arbiter = RoundRobin(self._pes)
        m.d.comb += [
            arbiter.requests.eq(Cat(pe.ask for pe in self.pe) & ~granted),
            arbiter.granted.eq(1),
            end.eq(following + size),
        ]
        m.d.sync += [
            size.eq(Mux(self.fiber >= limit, limit, Mux(self.fiber == 0, 1, self.fiber))),
            granted.eq(arbiter.grant),
        ]
        with m.If(arbiter.grant.any()):
            m.d.sync += [start.eq(following), following.eq(Mux(end >= limit, limit, end))]
        for n, pe in enumerate(self.pe):
            m.d.comb += [pe.granted.eq(granted[n]), pe.start.eq(Cat(Const(0, low_bits), start))]

        if platform == FORMAL:
            # Each piece begins where the last one ended, in a width in which nothing overflows.
            last_end = Signal(POSITION_BITS + FIBER_BITS)
            next_start = Signal(POSITION_BITS + 1)
            piece = Mux(self.fiber == 0, 1, self.fiber) * self._step
            above = 1 << POSITION_BITS
            some = granted.any()
            with m.If(some):
                m.d.sync += last_end.eq(self.pe[0].start + piece)
            m.d.comb += [
                next_start.eq(Mux(last_end >= above, above, last_end)),
                Assert(~some | (self.pe[0].start == next_start)),
                Assert((granted & (granted - 1)[: self._pes]) == 0),
            ]
            # for the induction: what the next piece will be
            then = Mux(some, self.pe[0].start + piece, last_end)
            m.d.comb += [
                Assert(Cat(Const(0, low_bits), following) == Mux(then >= above, above, then)),
                Assert(ResetSignal() | (size == Mux(piece >= above, above, piece) >> low_bits)),
            ]
            for n, pe in enumerate(self.pe):
                waits = Signal(name=f"waits_{n}")
                m.d.sync += waits.eq(pe.ask & ~pe.granted)
                m.d.comb += [Assume(~waits | pe.ask), Assert(~pe.granted | (waits & pe.ask))]
        return m


class Rooms(wiring.Component):
    """Hands out room in the regions of a compressed result, for its values and its block words.

    `Region` says how; a reset takes everything back.

    Members
    -------
    fiber_values, fiber_blocks : In(FIBER_BITS)
        The descriptor's fields of these names, under ``share``. Constant from the cycle before the
        first request on.
    pe : array of `PIECES`, in
    """

    def __init__(self, config: ChipConfig) -> None:
        self._pes = config.pes
        super().__init__(
            {
                "fiber_values": In(FIBER_BITS),
                "fiber_blocks": In(FIBER_BITS),
                "pe": In(PIECES).array(config.pes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.values = values = Region(self._pes, unit=ROOM_VALUES)
        m.submodules.blocks = blocks = Region(self._pes, unit=ROOM_BLOCKS)
        m.d.comb += [values.fiber.eq(self.fiber_values), blocks.fiber.eq(self.fiber_blocks)]
        for n, pe in enumerate(self.pe):
            wiring.connect(m, wiring.flipped(pe.values), values.pe[n])
            wiring.connect(m, wiring.flipped(pe.blocks), blocks.pe[n])
        return m
