"""``base + number * step``, the formula of every cell, pipelined."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, POSITION_BITS


class ScaledSum(wiring.Component):
    """``o = base + number * step`` modulo ``2**width``, `latency` advances later.

    ``load[n]``: stage n takes its input (`delay.Flow`); while it is low, its registers hold.
    ``step`` is constant.
    """

    latency = 2

    def __init__(self, width: int = POSITION_BITS) -> None:
        self._width = width
        super().__init__(
            {
                "base": In(width),
                "number": In(COORDINATE_BITS),
                "step": In(width),
                "load": In(self.latency),
                "o": Out(width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        base = Signal(self._width, reset_less=True)
        product = Signal(self._width, reset_less=True)
        o = Signal(self._width, reset_less=True)
        # Each two bits of the step choose a multiple of the number: half the terms of single bits.
        triple = Signal(COORDINATE_BITS + 2)
        m.d.comb += triple.eq(self.number * 3)
        terms = []
        for low in range(0, self._width, 2):
            one, two = self.step[low], self.step[low + 1]
            simple = Mux(one, self.number, 0) | Mux(two, self.number << 1, 0)
            term = Mux(one & two, triple, simple)
            terms.append(term[: self._width - low] << low)
        with m.If(self.load[0]):
            m.d.sync += [base.eq(self.base), product.eq(sum(terms))]
        with m.If(self.load[1]):
            m.d.sync += o.eq(base + product)
        m.d.comb += self.o.eq(o)
        return m
