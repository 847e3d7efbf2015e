"""Small units for tests of the power analysis, and their mapped netlists."""

from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw.generate import to_verilog
from loopnest_hw.power.mapping import Mapped, map_design


class Pipeline(wiring.Component):
    """Registers of 16 bits, with inverters between them."""

    i: In(16)
    o: Out(16)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        first, second = Signal(16), Signal(16)
        m.d.sync += [first.eq(self.i), second.eq(~first), self.o.eq(~second)]
        return m


class Trees(wiring.Component):
    """Four trees of AND gates, of eight inputs each, between registers."""

    i: In(32)
    o: Out(4)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(32)
        m.d.sync += held.eq(self.i)
        m.d.sync += [self.o[n].eq(held[8 * n : 8 * n + 8].all()) for n in range(4)]
        return m


class Multiplier(wiring.Component):
    """A product of registers, which are loaded with ``load``, in a unit of its own."""

    a: In(6)
    b: In(6)
    load: In(1)
    o: Out(12)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.product = product = Product()
        a, b = Signal(6), Signal(6)
        with m.If(self.load):
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
        m.d.comb += [product.a.eq(a), product.b.eq(b)]
        m.d.sync += self.o.eq(product.o ^ product.a)
        return m


class Product(wiring.Component):
    """A product of two numbers."""

    a: In(6)
    b: In(6)
    o: Out(12)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.o.eq(self.a * self.b)
        return m


def map_unit(unit: wiring.Component, liberty: str, folder: Path) -> Mapped:
    """Return a mapped unit."""
    return map_design(to_verilog(unit, "unit"), "unit", liberty, folder)
