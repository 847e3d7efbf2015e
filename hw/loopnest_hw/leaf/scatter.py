"""The scatter leaf: blocks taken apart into single lanes."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..tokens import PAIR, joined
from ..unary import lowest


class Scatter(wiring.Component):
    """Where ``enable`` is set, sends each lane as a block of its own, a lane a cycle, in order.

    Otherwise items pass as they are. A cycle of latency, an item a cycle. ``enable`` is constant.
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
        item = Signal(self.i.payload.shape())
        # The item's first block is the one at hand, with the lane that goes out; of it are left:
        rest = Signal(LANES)
        # and the second block is still to come.
        another = Signal()
        scatters = Signal()
        done = Signal()
        sent = Signal()
        m.d.comb += [
            scatters.eq(self.enable & (self.i.payload.count != 0)),
            done.eq(~rest.any() & ~another),
            sent.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(~self.o.valid | (sent & done)),
            self.o.payload.eq(item),
            self.o.payload.last.eq(item.last & done),
        ]

        def load(block: Any, scatters: Any) -> list[Any]:
            lane = Signal(LANES)
            m.d.comb += lane.eq(lowest(block.lanes))
            return [
                item.block[0].eq(block),
                item.block[0].lanes.eq(Mux(scatters, lane, block.lanes)),
                rest.eq(Mux(scatters, block.lanes & ~lane, 0)),
            ]

        first = load(self.i.payload.block[0], scatters)
        second = load(item.block[1], 1)
        lane = Signal(LANES)
        m.d.comb += lane.eq(lowest(rest))
        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                item.eq(self.i.payload),
                item.count.eq(Mux(scatters, 1, self.i.payload.count)),
                another.eq(scatters & (self.i.payload.count == PAIR)),
                *first,
            ]
        with m.Elif(sent):
            with m.If(rest.any()):
                m.d.sync += [item.block[0].lanes.eq(lane), rest.eq(rest & ~lane)]
            with m.Else():
                m.d.sync += [another.eq(0), *second]
        return m
