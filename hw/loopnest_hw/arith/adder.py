"""Sum, minimum or maximum in the chip's number format, of operands that may be absent."""

from amaranth.hdl import Const, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..config import WIDE_BITS, ChipConfig, NumberFormat
from ..descriptor import Reduction
from .delay import Flow
from .fadd import FpAdd
from .integer import IntAdd
from .operator import OPERATOR


class Adder(wiring.Component):
    """The sum, minimum or maximum of ``a`` and ``b``; if only one is present, it passes unchanged.

    An `OPERATOR`, whose ``o`` and ``o_present`` are registers.

    Parameters
    ----------
    config : ChipConfig
        Selects the number format. Inputs are outputs of `widen.Widen`.

    Attributes
    ----------
    latency : int
        Advances from ``a`` and ``b`` to ``o``.

    Members
    -------
    reduction : In(Reduction)
        Constant while something is in the pipe.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._integer = config.dtype is NumberFormat.INT8
        self.latency = config.dtype.add_latency
        super().__init__({**OPERATOR.members, "reduction": In(Reduction)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # the neutral element, which keeps even a zero's sign: -0
        neutral = Const(0 if self._integer else 1 << 31, WIDE_BITS)
        unit = IntAdd() if self._integer else FpAdd()
        assert unit.latency == self.latency
        m.submodules.unit = unit
        any_present = self.a_present | self.b_present
        flow = Flow(m, any_present, self.latency, advance=self.advance)
        extreme = self.reduction != Reduction.SUM
        m.d.comb += [
            unit.load.eq(flow.load),
            # an absent operand becomes neutral in a sum
            unit.extreme.eq(extreme & self.a_present & self.b_present),
            unit.minimum.eq(self.reduction == Reduction.MIN),
            unit.a.eq(Mux(self.a_present, self.a, neutral)),
            unit.b.eq(Mux(self.b_present, self.b, neutral)),
            self.o.eq(unit.o),
            self.o_present.eq(flow.valid[-1]),
        ]
        if isinstance(unit, IntAdd):
            # a sum with a neutral operand does not overflow; if both are absent, it is undefined
            m.d.comb += self.overflow.eq(unit.overflow & self.o_present)
        return m
