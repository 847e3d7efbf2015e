"""An eager fork: one stream to several, each at its own pace."""

from typing import Any

from amaranth.hdl import Cat, Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Fork(wiring.Component):
    """Offers each item to every output whose ``wanted`` bit is set, until all have taken it.

    No latency; an item per cycle. ``wanted`` must hold as long as the item does. Eager: an output
    that is ready never waits for another that is not.
    """

    def __init__(self, shape: ShapeLike, outputs: int) -> None:
        self._outputs = outputs
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "wanted": In(outputs),
                "o": Out(stream.Signature(shape)).array(outputs),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        taken = Signal(self._outputs)
        settled = Signal(self._outputs)
        for n, output in enumerate(self.o):
            m.d.comb += [
                output.payload.eq(self.i.payload),
                output.valid.eq(self.i.valid & self.wanted[n] & ~taken[n]),
                settled[n].eq(taken[n] | ~self.wanted[n] | output.ready),
            ]
        m.d.comb += self.i.ready.eq(settled.all())
        with m.If(self.i.valid):
            m.d.sync += taken.eq(Cat(~settled.all() & bit for bit in settled))
        return m
