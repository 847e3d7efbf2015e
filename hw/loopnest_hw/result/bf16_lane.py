"""The epilogue's arithmetic on a bf16 chip."""

from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arith.delay import delayed
from ..arith.fadd import FpAdd
from ..arith.float32 import FLOAT32, SIGNIFICAND_BITS, is_nan
from ..arith.fmul import FpMul
from ..arith.widen import flush
from ..config import WIDE_BITS

NARROW_BITS = 16


def _order(number: data.View) -> Value:
    """Return a signed integer in the order of the numbers; both zeros map to the same."""
    magnitude = Cat(number.fraction, number.exponent)
    return Mux(number.sign, -magnitude, magnitude)


class Bf16Lane(wiring.Component):
    """``clamp(relu(threshold((value + bias) * scale)))`` in fp32, one per cycle.

    Sum, product and a narrow output are rounded to nearest even; subnormals are zeros. Comparisons
    with a NaN are false: it passes threshold, relu and clamp.

    Members
    -------
    load : In(latency)
        ``load[n]``: stage n takes its input (`delay.Flow`). While it is low, its registers hold.
    value, bias, scale : In(32)
    settings : In
        The descriptor's ``epilogue``, enabled. Constant from the cycle before the first value on.
    narrow : In(1)
        Constant, too.
    o : Out(32), from a register
        The result of the inputs of `latency` advances before; a narrow one is extended with zeros.
    overflow : Out(1)
        0.
    """

    latency: ClassVar[int] = FpAdd.latency + FpMul.latency + 3
    sum_latency: ClassVar[int] = FpAdd.latency

    def __init__(self, settings: data.StructLayout) -> None:
        super().__init__(
            {
                "load": In(self.latency),
                "value": In(WIDE_BITS),
                "bias": In(WIDE_BITS),
                "scale": In(WIDE_BITS),
                "settings": In(settings),
                "narrow": In(1),
                "o": Out(WIDE_BITS),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        settings = self.settings

        m.submodules.sum = add = FpAdd()
        m.submodules.product = multiply = FpMul(SIGNIFICAND_BITS)
        m.d.comb += [
            add.load.eq(self.load[: FpAdd.latency]),
            add.a.eq(self.value),
            add.b.eq(self.bias),
            multiply.load.eq(self.load[FpAdd.latency : -3]),
            multiply.a.eq(add.o),
            multiply.b.eq(delayed(m, self.scale, self.load[: FpAdd.latency])),
        ]
        x = data.View(FLOAT32, multiply.o)

        def setting(raw: Value, name: str) -> tuple[data.View, Signal, Signal]:
            """Return a bound with subnormals flushed, its order, and whether it is a number."""
            number = Signal(FLOAT32, name=name)
            order = Signal(signed(WIDE_BITS), name=f"{name}_order")
            valid = Signal(name=f"{name}_valid")
            flushed = Signal(FLOAT32, name=f"{name}_flushed")
            m.d.comb += flushed.as_value().eq(flush(data.View(FLOAT32, raw), Const(0, 1)))
            with m.If(settings.enable):
                m.d.sync += [
                    number.eq(flushed),
                    order.eq(_order(flushed)),
                    valid.eq(~is_nan(flushed)),
                ]
            return number, order, valid

        low, low_order, low_valid = setting(settings.low, "low")
        high, high_order, high_valid = setting(settings.high, "high")
        threshold, _, threshold_valid = setting(settings.threshold, "threshold")

        # Threshold, relu
        kept = Signal(FLOAT32, reset_less=True)
        small = (
            (Cat(x.fraction, x.exponent) < Cat(threshold.fraction, threshold.exponent))
            & threshold_valid
            & ~threshold.sign
        )
        with m.If(self.load[-3]):
            m.d.sync += kept.eq(x)
            with m.If(~is_nan(x) & (small | (settings.relu & x.sign))):
                m.d.sync += kept.eq(0)

        # Clamp
        clamped = Signal(FLOAT32, reset_less=True)
        bottom = Signal(FLOAT32)
        crossed = (low_order > high_order) & low_valid & high_valid
        with m.If(settings.enable):
            m.d.sync += bottom.eq(Mux(crossed, high.as_value(), low.as_value()))
        order = _order(kept)
        with m.If(self.load[-2]):
            m.d.sync += clamped.eq(kept)
            with m.If(~is_nan(kept)):
                with m.If(low_valid & (order < low_order)):
                    m.d.sync += clamped.eq(bottom)
                with m.Elif(high_valid & (order > high_order)):
                    m.d.sync += clamped.eq(high)

        # The output's type
        bits = clamped.as_value()
        below = WIDE_BITS - NARROW_BITS
        up = bits[below - 1] & (bits[: below - 1].any() | bits[below])
        output = Signal(WIDE_BITS, reset_less=True)
        with m.If(self.load[-1]):
            # The low bits of NaN and infinity are zeros, so they are not rounded up.
            m.d.sync += output.eq(Mux(self.narrow, (bits[below:] + up)[:NARROW_BITS], bits))
        m.d.comb += self.o.eq(output)
        return m
