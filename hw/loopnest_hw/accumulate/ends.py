"""The ends: the order in which passes of result fibers ended, for the drain."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import POSITION_BITS, ChipConfig

UNDECIDED = 5
"""Ends that can follow once the unit is full: those in the table's pipeline."""

DECIDED = data.StructLayout({"bare": 1, "again": 1})
"""Of a pass: whether its fiber had no blocks, and so has no context; whether another one follows.
"""

FILLED = data.StructLayout({"fiber": POSITION_BITS, "final": 1})
"""Of the same: its result fiber, and whether it is the nest's last."""

END = data.StructLayout({**DECIDED.members, **FILLED.members})


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
                "ended": In(FILLED),
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
        # with one wrap bit each
        decided, ended, filled, taken = (
            Signal(range(2 * depth), name=name) for name in ("decided", "ended", "filled", "taken")
        )
        used, after, complete = (Signal.like(taken, name=n) for n in ("used", "after", "complete"))
        m.d.comb += [
            used.eq(decided - taken),
            after.eq(taken + self.next),
            complete.eq(filled + self.filled),
            self.expecting.eq(decided != ended),
            self.waiting.eq(decided != taken),
        ]
        m.d.sync += [
            decided.eq(decided + self.decides),
            ended.eq(ended + self.last),
            filled.eq(complete),
            taken.eq(after),
            self.room.eq(used <= depth - UNDECIDED),
            # a cycle ahead: in its own cycle it would be on the drain's critical path
            self.ready.eq(after != complete),
        ]
        # What the memories have is read in the same cycle; it is used only if it is complete.
        parts = []
        for name, enable, pointer, of in (
            ("decided", self.decides, decided, self.decided),
            ("ended", self.last, ended, self.ended),
        ):
            layout = of.shape()
            m.submodules[f"{name}_memory"] = ring = memory.Memory(
                shape=layout, depth=depth, init=[]
            )
            write, read = ring.write_port(), ring.read_port()
            m.d.comb += [
                write.en.eq(enable),
                write.addr.eq(pointer[:-1]),
                write.data.eq(of),
                read.en.eq(1),
                read.addr.eq(after[:-1]),
            ]
            parts.append(read.data)
        m.d.comb += self.end.eq(Cat(parts))
        return m
