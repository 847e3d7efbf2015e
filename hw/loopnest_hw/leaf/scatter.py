"""The scatter leaf: splits blocks into single lanes."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, PAIR, ChipConfig
from ..tokens import joined
from ..unary import lowest


class Scatter(wiring.Component):
    """If ``enable`` is set, sends each lane as a block of its own, one lane per cycle, in order.

    Otherwise items pass unchanged. A cycle of latency, an item per cycle. ``enable`` is constant.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(joined(config, PAIR))),
                "enable": In(1),
                "o": Out(stream.Signature(joined(config, PAIR))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        item = Signal(self.i.payload.shape(), reset_less=True)
        # The remaining lanes of the item's first block, which provides the lane at the output:
        rest = Signal(LANES)
        # the second block has yet to be split
        another = Signal()
        more = Signal()  # lanes of the item remain in either block
        scatters = Signal()
        sent = Signal()
        m.d.comb += [
            scatters.eq(self.enable & (self.i.payload.count != 0)),
            sent.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(~self.o.valid | (sent & ~more)),
            self.o.payload.eq(item),
            self.o.payload.last.eq(item.last & ~more),
        ]

        def split(lanes: Any) -> tuple[Signal, Signal]:
            """Return the lowest lane, and the others."""
            lane, others = Signal(LANES), Signal(LANES)
            m.d.comb += [lane.eq(lowest(lanes)), others.eq(lanes & ~lane)]
            return lane, others

        first, after_first = split(self.i.payload.block[0].lanes)
        second, after_second = split(item.block[1].lanes)
        lane, after_lane = split(rest)
        two = self.i.payload.count == PAIR
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    item.eq(self.i.payload),
                    item.count.eq(Mux(scatters, 1, self.i.payload.count)),
                    rest.eq(Mux(scatters, after_first, 0)),
                    another.eq(scatters & two),
                    more.eq(scatters & (after_first.any() | two)),
                ]
                with m.If(scatters):
                    m.d.sync += item.block[0].lanes.eq(first)
        with m.Elif(sent):
            with m.If(rest.any()):
                m.d.sync += [
                    item.block[0].lanes.eq(lane),
                    rest.eq(after_lane),
                    more.eq(after_lane.any() | another),
                ]
            with m.Else():
                m.d.sync += [
                    item.block[0].eq(item.block[1]),
                    item.block[0].lanes.eq(second),
                    rest.eq(after_second),
                    more.eq(after_second.any()),
                    another.eq(0),
                ]
        return m
