"""The lines of several PEs' writers, on their way to one write port."""

from typing import Any

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..formal import FORMAL
from ..queue import Queue
from ..stream.round_robin import RoundRobin
from ..tokens import LINE_WRITE
from ..unary import one_of

STAGES = 2
"""Depth of the queue at the output: the smallest for one line per cycle and a registered ready."""


class WriteArbiter(wiring.Component):
    """Passes on the PEs' lines in turn, one per cycle; those of a PE stay in order.

    A line is offered at ``o`` one cycle after its transfer, or later. Before a PE's line is
    transferred, at most one line of each other PE is.

    Members
    -------
    i : array of streams of `tokens.LINE_WRITE`, in
        Each PE's lines.
    o : stream of `tokens.LINE_WRITE`, out
    idle : Out(1)
        No line is inside or offered: every line that was transferred at ``i`` was at ``o``.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._pes = config.pes
        super().__init__(
            {
                "i": In(stream.Signature(LINE_WRITE)).array(config.pes),
                "o": Out(stream.Signature(LINE_WRITE)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = RoundRobin(self._pes)
        m.submodules.queue = queue = Queue(LINE_WRITE, STAGES)
        m.d.comb += [
            arbiter.requests.eq(Cat(i.valid for i in self.i)),
            arbiter.granted.eq(queue.i.ready),
            queue.i.valid.eq(arbiter.requests.any()),
            queue.i.payload.eq(
                one_of((grant, i.payload) for grant, i in zip(arbiter.grant, self.i, strict=True))
            ),
            self.idle.eq(queue.empty & ~arbiter.requests.any()),
        ]
        for grant, i in zip(arbiter.grant, self.i, strict=True):
            m.d.comb += i.ready.eq(grant & queue.i.ready)
        wiring.connect(m, queue.o, wiring.flipped(self.o))

        if platform == FORMAL:
            # a line goes into the queue when its PE's stream transfers it, and only then
            taken = Signal(self._pes)
            m.d.comb += [
                taken.eq(Cat(i.valid & i.ready for i in self.i)),
                Assert((taken & (taken - 1)[: self._pes]) == 0),
                Assert(taken.any() == (queue.i.valid & queue.i.ready)),
            ]
            for n, i in enumerate(self.i):
                m.d.comb += Assert(~taken[n] | (queue.i.payload.as_value() == Cat(i.payload)))
        return m
