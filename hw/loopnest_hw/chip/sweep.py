"""The sweep of the accumulator's tables, which no reset clears."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..accumulate.place import set_bits
from ..config import ChipConfig


class Sweep(wiring.Component):
    """Clears the tables after a reset, and after a kernel that was cut off; one set per cycle.

    The tables are empty when a kernel has ended, so none follows an end. A sweep begins when the
    PE's registers are reset, and goes on while the next kernel begins.

    Members
    -------
    running : In(1)
        The PE is not in reset.
    ended : In(1)
        In the last cycle of ``running``: the kernel has ended.
    clear : Out(1), set : Out
        The set to clear.
    """

    def __init__(self, config: ChipConfig) -> None:
        super().__init__(
            {
                "running": In(1),
                "ended": In(1),
                "clear": Out(1, init=1),
                "set": Out(set_bits(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ran = Signal()
        m.d.sync += ran.eq(self.running & ~self.ended)
        with m.If(self.clear):
            m.d.sync += [self.set.eq(self.set + 1), self.clear.eq(~self.set.all())]
        with m.If(ran & ~self.running):
            m.d.sync += self.clear.eq(1)
        return m
