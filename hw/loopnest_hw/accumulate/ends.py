"""The ends: the order in which passes of result fibers ended, for the drain."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import POSITION_BITS, ChipConfig

UNDECIDED = 5
"""Ends that can follow once the ring is full: one is decided, three are in the table's pipeline,
and one is taken while ``room``, a register, does not yet say so.
"""

DECIDED = data.StructLayout({"bare": 1, "again": 1})
"""Of a pass: whether its fiber is without blocks, and so without a context; whether another pass
follows.
"""

ENDED = data.StructLayout({"fiber": POSITION_BITS, "final": 1})
"""Of the same: its result fiber, and whether it is the nest's last."""

END = data.StructLayout({**DECIDED.members, **ENDED.members})


class Ends(wiring.Component):
    """A ring of the passes that have ended, in order: the table decides a pass's end, the fill adds
    its last terms, and the drain takes it.

    Members
    -------
    decides : In(1), decided : In
        The table decides a pass's last lookup.
    room : Out(1)
        The table may take lookups: the ends among them have room. From a register.
    last : In(1), ended : In, filled : In(1)
        The pass's last step enters the fill; all its terms are in the banks (later).
    ready : Out(1), end : Out(END), next : In(1)
        The next pass's terms are in the banks, and what it is, from registers; the drain takes it.
    expecting : Out(1), waiting : Out(1)
        Passes are decided that the fill, or the drain, has not seen.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._depth = config.passes_ended
        super().__init__(
            {
                "decides": In(1),
                "decided": In(DECIDED),
                "room": Out(1),
                "last": In(1),
                "ended": In(ENDED),
                "filled": In(1),
                "ready": Out(1),
                "end": Out(END),
                "next": In(1),
                "expecting": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._depth
        # how many passes came so far, with one wrap bit
        decided_at, ended_at, filled_at, taken_at = (
            Signal(range(2 * depth), name=f"{name}_at")
            for name in ("decided", "ended", "filled", "taken")
        )
        used = Signal.like(taken_at)
        next_taken = Signal.like(taken_at)
        next_filled = Signal.like(taken_at)
        m.d.comb += [
            used.eq(decided_at - taken_at),
            next_taken.eq(taken_at + self.next),
            next_filled.eq(filled_at + self.filled),
            self.expecting.eq(decided_at != ended_at),
            self.waiting.eq(decided_at != taken_at),
        ]
        m.d.sync += [
            decided_at.eq(decided_at + self.decides),
            ended_at.eq(ended_at + self.last),
            filled_at.eq(next_filled),
            taken_at.eq(next_taken),
            self.room.eq(used <= depth - UNDECIDED),
            # a cycle ahead: in its own cycle it would be on the drain's critical path
            self.ready.eq(next_taken != next_filled),
        ]
        # The memories are addressed a cycle ahead, too; a pass that is complete was written before.
        for name, enable, at, of in (
            ("decided", self.decides, decided_at, self.decided),
            ("ended", self.last, ended_at, self.ended),
        ):
            layout = of.shape()
            m.submodules[f"{name}_memory"] = ring = memory.Memory(
                shape=layout, depth=depth, init=[]
            )
            write, read = ring.write_port(), ring.read_port(transparent_for=())
            m.d.comb += [
                write.en.eq(enable),
                write.addr.eq(at[:-1]),
                write.data.eq(of),
                read.en.eq(1),
                read.addr.eq(next_taken[:-1]),
                *(self.end[member].eq(read.data[member]) for member in layout.members),
            ]
        return m
