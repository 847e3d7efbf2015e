"""The scatter leaf: blocks taken apart into single lanes."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, ChipConfig
from ..tokens import PAIR, joined


class Scatter(wiring.Component):
    """Where ``enable`` is set, sends each lane as a block of its own, a lane a cycle, in order.

    Otherwise items pass as they are. No latency.
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
        item, out = self.i.payload, self.o.payload
        second = Signal()
        started = Signal()
        rest = Signal(LANES)
        block = Signal(item.block[0].shape())
        todo = Signal(LANES)
        lowest = Signal(LANES)
        block_done = Signal()
        item_done = Signal()
        m.d.comb += [
            block.eq(Mux(second, item.block[1].as_value(), item.block[0].as_value())),
            todo.eq(Mux(started, rest, block.lanes)),
            lowest.eq(todo & -todo),
            block_done.eq((todo == lowest) | (item.count == 0)),
            item_done.eq(~self.enable | (block_done & (second | (item.count != PAIR)))),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready & item_done),
            out.eq(item),
        ]
        with m.If(self.enable & (item.count != 0)):
            m.d.comb += [
                out.block[0].eq(block),
                out.block[0].lanes.eq(lowest),
                out.count.eq(1),
                out.last.eq(item.last & item_done),
            ]
        with m.If(self.o.valid & self.o.ready & self.enable):
            m.d.sync += [
                started.eq(~block_done),
                rest.eq(todo & ~lowest),
                second.eq((second | block_done) & ~item_done),
            ]
        return m
