"""Multiplication in the chip's number format, of operands that may be absent."""

from amaranth.hdl import Const, Module, Mux
from amaranth.lib import wiring

from ..config import WIDE_BITS, ChipConfig, NumberFormat
from .delay import Flow
from .fmul import FpMul
from .integer import IntMul
from .operator import OPERATOR

BF16_SIGNIFICANT = 8
"""Significant bits of a bf16, the leading one counted."""


def multiply_latency(config: ChipConfig) -> int:
    """Return the latency of a `Multiplier` in advances."""
    return IntMul.latency if config.dtype is NumberFormat.INT8 else FpMul.latency


class Multiplier(wiring.Component):
    """``o = a * b``; if only one is present, it passes unchanged. An `OPERATOR`, whose ``o`` and
    ``o_present`` are registers.

    ``b`` is a narrow value, widened and possibly negated: its other bits (fp32: all but the upper
    16; int32: all but the low 9) are not used in a product.

    Parameters
    ----------
    config : ChipConfig
        Selects the number format. Inputs are outputs of `widen.Widen`.

    Attributes
    ----------
    latency : int
        Advances from ``a`` and ``b`` to ``o``.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._integer = config.dtype is NumberFormat.INT8
        self.latency = multiply_latency(config)
        super().__init__(OPERATOR)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        one = Const(1 if self._integer else 127 << 23, WIDE_BITS)
        unit = IntMul() if self._integer else FpMul(BF16_SIGNIFICANT)
        m.submodules.unit = unit
        both_present = self.a_present & self.b_present
        any_present = self.a_present | self.b_present
        flow = Flow(m, any_present, self.latency, advance=self.advance)
        m.d.comb += [
            unit.load.eq(flow.load),
            unit.a.eq(Mux(self.a_present, self.a, self.b)),
            unit.b.eq(Mux(both_present, self.b, one)),
            self.o.eq(unit.o),
            self.o_present.eq(flow.valid[-1]),
        ]
        if isinstance(unit, IntMul):
            m.d.comb += self.overflow.eq(unit.overflow & self.o_present)
        return m
