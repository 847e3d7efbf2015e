"""``base + number * step``, the formula of every cell, pipelined."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import COORDINATE_BITS, POSITION_BITS

DIGIT = 10
"""Bits of ``number`` that the first stage multiplies at once."""


class ScaledSum(wiring.Component):
    """``o = base + number * step`` modulo 2^32, `latency` advances later.

    ``advance`` moves the pipeline; while it is low, all registers hold. ``step`` is constant.
    """

    latency = 2

    base: In(POSITION_BITS)
    number: In(COORDINATE_BITS)
    step: In(POSITION_BITS)
    advance: In(1)
    o: Out(POSITION_BITS)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        base = Signal(POSITION_BITS, reset_less=True)
        products = []
        for low in range(0, COORDINATE_BITS, DIGIT):
            product = Signal(POSITION_BITS - low, name=f"product_{low}", reset_less=True)
            with m.If(self.advance):
                m.d.sync += product.eq(self.number[low : low + DIGIT] * self.step)
            products.append(product << low)
        with m.If(self.advance):
            m.d.sync += [base.eq(self.base), self.o.eq(sum(products, base))]
        return m
