"""int32 addition and multiplication."""

from typing import ClassVar

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

NARROW_BITS = 9
"""Bits of a narrow factor: an int8, or the negation of one."""

LOW_BITS = 5
"""Bits of it that are multiplied apart from the others, to halve the work of a stage."""


def leaves_int32(exact: Value) -> Value:
    """Say whether the signed number does not fit into 32 bits."""
    return exact[31:].any() & ~exact[31:].all()


class IntAdd(wiring.Component):
    """``o = a + b`` in int32, one a cycle; a sum that leaves int32 wraps and sets ``overflow``.

    Members
    -------
    advance : In(1)
        The pipe moves. While it is low, everything stands still.
    a, b : In(32)
    o : Out(32), from a register
        The sum of the ``a`` and ``b`` of `latency` advances before.
    overflow : Out(1), from a register
    """

    latency: ClassVar[int] = 1

    advance: In(1)
    a: In(32)
    b: In(32)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(signed(33))
        o = Signal(32, reset_less=True)
        overflow = Signal(reset_less=True)
        m.d.comb += [
            total.eq(self.a.as_signed() + self.b.as_signed()),
            self.o.eq(o),
            self.overflow.eq(overflow),
        ]
        with m.If(self.advance):
            m.d.sync += [o.eq(total), overflow.eq(leaves_int32(total))]
        return m


class IntMul(wiring.Component):
    """``o = a * b`` in int32, one a cycle; a product that leaves int32 wraps and sets ``overflow``.

    Members
    -------
    advance : In(1)
        The pipe moves. While it is low, everything stands still.
    a : In(32)
    b : In(32)
        A narrow number: only its low `NARROW_BITS` bits are looked at.
    o : Out(32), from a register
        The product of the ``a`` and ``b`` of `latency` advances before.
    overflow : Out(1), from a register
    """

    latency: ClassVar[int] = 2

    advance: In(1)
    a: In(32)
    b: In(32)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a = self.a.as_signed()
        low = Signal(signed(32 + LOW_BITS), reset_less=True)
        high = Signal(signed(32 + NARROW_BITS - LOW_BITS), reset_less=True)
        product = Signal(signed(32 + NARROW_BITS))
        o = Signal(32, reset_less=True)
        overflow = Signal(reset_less=True)
        m.d.comb += [
            product.eq((high << LOW_BITS) + low),
            self.o.eq(o),
            self.overflow.eq(overflow),
        ]
        with m.If(self.advance):
            m.d.sync += [
                low.eq(a * self.b[:LOW_BITS]),
                high.eq(a * self.b[LOW_BITS:NARROW_BITS].as_signed()),
                o.eq(product),
                overflow.eq(leaves_int32(product)),
            ]
        return m
