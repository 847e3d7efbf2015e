"""Conversion of values from memory to the chip's wide format."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..config import WIDE_BITS, ChipConfig, NumberFormat
from .float32 import FLOAT32, NAN, is_nan, is_zero
from .integer import leaves_int32


class Widen(wiring.Component):
    """Widens, and negates on request. Combinational.

    int8: the number is sign-extended. bf16: it becomes the fp32 of its value. Wide values are kept,
    but subnormals become zeros of the same sign, and every NaN becomes `float32.NAN`.

    Parameters
    ----------
    config : ChipConfig
        Chooses the number format.

    Members
    -------
    i : In(32)
        The value; bits above a narrow one are ignored.
    wide : In(1)
        It is wide.
    negate : In(1)
        It is negated. A NaN stays as it is.
    o : Out(32)
    overflow : Out(1)
        The negation wrapped.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._format = config.dtype
        super().__init__(
            {
                "i": In(WIDE_BITS),
                "wide": In(1),
                "negate": In(1),
                "o": Out(WIDE_BITS),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        narrow: Value = self.i[: self._format.narrow_bits]
        if self._format is NumberFormat.INT8:
            value = Signal(signed(WIDE_BITS))
            result = Signal(signed(WIDE_BITS + 1))
            m.d.comb += [
                value.eq(Mux(self.wide, self.i.as_signed(), narrow.as_signed())),
                result.eq(Mux(self.negate, -value, value)),
                self.o.eq(result),
                self.overflow.eq(leaves_int32(result)),
            ]
        else:
            number = Signal(FLOAT32)
            zeros = Const(0, WIDE_BITS - self._format.narrow_bits)
            m.d.comb += number.as_value().eq(Mux(self.wide, self.i, Cat(zeros, narrow)))
            m.d.comb += self.o.eq(flush(number, self.negate))
        return m


def flush(number: data.View, negate: Value) -> Value:
    """Return the `FLOAT32` with every NaN replaced by `NAN` and subnormals flushed."""
    kept = number.fraction & (~is_zero(number)).replicate(len(number.fraction))
    value = Cat(kept, number.exponent, number.sign ^ negate)
    return Mux(is_nan(number), Const(NAN, WIDE_BITS), value)
