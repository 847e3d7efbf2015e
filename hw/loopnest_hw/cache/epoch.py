"""The epoch: empties the cache at once, without a reset of its memories."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .geometry import CacheConfig


def tag_clear(config: CacheConfig) -> data.StructLayout:
    """What empties the tags: those of another ``epoch`` are void, and while ``sweeping`` those of
    ``set`` are cleared.

    The epoch begins in the second cycle of a flush: in the first one, an operation that the flush
    cuts off may still write tags.
    """
    return data.StructLayout({"epoch": config.epoch_bits, "sweeping": 1, "set": config.set_bits})


class Epoch(wiring.Component):
    """Begins an epoch with every flush. Sets keep the epoch in which they were last written.

    Before an epoch's number occurs again, every ``2**epoch_bits`` flushes, all sets are swept, and
    after a reset too, when their contents are unknown: one set per cycle, during which the banks
    accept nothing.

    Members
    -------
    flush : In(1)
        Every rising edge begins an epoch.
    clear : Out(`tag_clear`)
        From registers.
    """

    def __init__(self, config: CacheConfig) -> None:
        super().__init__({"flush": In(1), "clear": Out(tag_clear(config), init={"sweeping": 1})})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clear = self.clear
        before = Signal()
        m.d.sync += before.eq(self.flush)
        with m.If(clear.sweeping):
            m.d.sync += [clear.set.eq(clear.set + 1), clear.sweeping.eq(~clear.set.all())]
        with m.If(self.flush & ~before):
            m.d.sync += clear.epoch.eq(clear.epoch + 1)
            with m.If(clear.epoch.all()):
                m.d.sync += [clear.sweeping.eq(1), clear.set.eq(0)]
        return m
