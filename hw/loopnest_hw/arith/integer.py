"""int32 addition, minimum, maximum and multiplication."""

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .carry_select import carry_select

NARROW_BITS = 9
"""Bits of a narrow factor: an int8, or the negation of one."""

PART_BITS = 3
"""Bits of it that are multiplied in one stage."""


def leaves_int32(exact: Value) -> Value:
    """Return whether the signed number does not fit into 32 bits."""
    return exact[31:].any() & ~exact[31:].all()


def extended(x: Value) -> Value:
    """Return the int32, sign-extended by one bit."""
    return Cat(x, x[-1])


class IntAdd(wiring.Component):
    """``o = a + b`` in int32, or the smaller or the larger one; one per cycle.

    A sum that does not fit int32 wraps and sets ``overflow``.

    Members
    -------
    load : In(1)
        The inputs are taken (`delay.Flow`). While it is low, the registers hold.
    a, b : In(32)
    extreme : In(1), minimum : In(1)
        Instead of the sum: the minimum, or else the maximum.
    o : Out(32), from a register
        The result of the ``a`` and ``b`` of `latency` advances before.
    overflow : Out(1), from a register
    """

    latency: ClassVar[int] = 1

    load: In(latency)
    a: In(32)
    b: In(32)
    extreme: In(1)
    minimum: In(1)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(signed(33))
        loses = Signal()  # a is not the one
        o = Signal(32, reset_less=True)
        overflow = Signal(reset_less=True)
        m.d.comb += [
            total.eq(carry_select(m, extended(self.a), extended(self.b), Const(0, 1))),
            loses.eq((self.a.as_signed() < self.b.as_signed()) ^ self.minimum),
            self.o.eq(o),
            self.overflow.eq(overflow),
        ]
        with m.If(self.load):
            m.d.sync += [
                o.eq(Mux(self.extreme, Mux(loses, self.b, self.a), total[:32])),
                overflow.eq(leaves_int32(total) & ~self.extreme),
            ]
        return m


class IntMul(wiring.Component):
    """``o = a * b`` in int32, one per cycle; a product that leaves int32 wraps and sets
    ``overflow``.

    Members
    -------
    load : In(3)
        ``load[n]``: stage n takes its input (`delay.Flow`). While it is low, its registers hold.
    a : In(32)
    b : In(32)
        A narrow number: only its low `NARROW_BITS` bits are used.
    o : Out(32), from a register
        The product of the ``a`` and ``b`` of `latency` advances before.
    overflow : Out(1), from a register
    """

    latency: ClassVar[int] = 3

    load: In(latency)
    a: In(32)
    b: In(32)
    o: Out(32)
    overflow: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = 32 + NARROW_BITS
        parts = []
        for cut in range(0, NARROW_BITS, PART_BITS):
            factor = self.b[cut : cut + PART_BITS]
            if cut + PART_BITS == NARROW_BITS:
                factor = factor.as_signed()
            part = Signal(signed(32 + PART_BITS), name=f"part_{cut}", reset_less=True)
            with m.If(self.load[0]):
                m.d.sync += part.eq(self.a.as_signed() * factor)
            parts.append(part << cut)
        product = Signal(signed(bits), reset_less=True)
        o = Signal(32, reset_less=True)
        overflow = Signal(reset_less=True)
        m.d.comb += [self.o.eq(o), self.overflow.eq(overflow)]
        with m.If(self.load[1]):
            m.d.sync += product.eq(sum(parts))
        with m.If(self.load[2]):
            m.d.sync += [o.eq(product), overflow.eq(leaves_int32(product))]
        return m
