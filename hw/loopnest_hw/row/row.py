"""A row between the first and the leaf: front and expander, with a bypass."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import ChipConfig
from ..kernel import kernel_layout
from ..tokens import AHEAD, BOUND, FIBER_BLOCKS, FIBER_REQUEST, token
from .expander import Expander
from .front import RowFront


class Row(wiring.Component):
    """Expands each token by one loop; a bypassed row passes tokens unchanged, without latency."""

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(token(config))),
                "row": In(kernel_layout(config)["row"].shape.elem_shape),
                "epoch": In(1),
                "request": Out(stream.Signature(FIBER_REQUEST)).array(config.operands),
                "blocks": In(stream.Signature(FIBER_BLOCKS)).array(config.operands),
                "ahead": In(AHEAD).array(config.operands),
                "bound": Out(BOUND).array(config.operands),
                "o": Out(stream.Signature(token(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.front = front = RowFront(self._config, 1)
        m.submodules.expander = expander = Expander(self._config)
        connect(m, front.o, expander.i)
        connect(m, front.context, expander.context)
        m.d.comb += [
            front.row.eq(self.row),
            front.epoch.eq(self.epoch),
            expander.row.eq(self.row),
            expander.epoch.eq(self.epoch),
            front.i.payload.eq(self.i.payload),
        ]
        for o in range(self._config.operands):
            connect(m, front.request[o], flipped(self.request[o]))
            connect(m, flipped(self.blocks[o]), front.blocks[o])
            m.d.comb += [front.ahead[o].eq(self.ahead[o]), self.bound[o].eq(front.bound[o])]
        with m.If(self.row.bypass):
            m.d.comb += [
                self.o.valid.eq(self.i.valid),
                self.o.payload.eq(self.i.payload),
                self.i.ready.eq(self.o.ready),
            ]
        with m.Else():
            m.d.comb += [
                front.i.valid.eq(self.i.valid),
                self.i.ready.eq(front.i.ready),
                self.o.valid.eq(expander.o.valid),
                self.o.payload.eq(expander.o.payload),
                expander.o.ready.eq(self.o.ready),
            ]
        return m
