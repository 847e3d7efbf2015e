"""The epilogue's arithmetic on an int8 chip."""

from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arith.integer import IntAdd
from ..config import WIDE_BITS

PIECE_BITS = 3
"""Bits of the multiplier that are multiplied at once."""

PRODUCT_BITS = 2 * WIDE_BITS
NARROW_BITS = 8


def _limit(negative: Value, bits: int) -> Value:
    """Return the lowest or the highest signed number of ``bits``."""
    return Cat((~negative).replicate(bits - 1), negative)


def _limited(value: Value, bits: int) -> Value:
    """Return a signed number saturated to ``bits``."""
    fits = value[bits - 1 :].all() | ~value[bits - 1 :].any()
    return Mux(fits, value[:bits], _limit(value[-1], bits))


class Int8Lane(wiring.Component):
    """``clamp(relu(threshold(round_half_even((value + bias) * scale >> shift))))``, one per cycle.

    The sum wraps in int32; product and quotient are exact up to the rounding, then saturated to
    int32; a narrow output is saturated to int8.

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
    overflow : Out(1), from a register
        The sum of the inputs of `sum_latency` advances before wrapped.
    """

    latency: ClassVar[int] = 12
    sum_latency: ClassVar[int] = IntAdd.latency

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
        stages = 0

        def stage(value: Value, name: str) -> Signal:
            register = Signal(value.shape(), name=name, reset_less=True)
            with m.If(self.load[stages]):
                m.d.sync += register.eq(value)
            return register

        # 1: the sum
        m.submodules.sum = unit = IntAdd()
        m.d.comb += [
            unit.load.eq(self.load[: unit.latency]),
            unit.a.eq(self.value),
            unit.b.eq(self.bias),
            self.overflow.eq(unit.overflow),
        ]
        total = unit.o.as_signed()
        scale = stage(self.scale, "scale_1")
        stages += unit.latency

        # 2 to 6: its product with each piece of the multiplier, and their sum
        cuts = range(0, WIDE_BITS, PIECE_BITS)
        parts = []
        for cut in cuts:
            piece = scale[cut : cut + PIECE_BITS]
            # The top piece carries the sign.
            factor = piece.as_signed() if cut + PIECE_BITS >= WIDE_BITS else piece
            parts.append((cut, stage(total * factor, f"part_{cut}")))
        stages += 1
        while len(parts) > 1:
            pairs = zip(parts[0::2], parts[1::2], strict=False)
            sums = [
                (low, stage(a + (b << (high - low)), f"sum_{stages}_{low}"))
                for (low, a), (high, b) in pairs
            ]
            if len(parts) % 2:
                low, rest = parts[-1]
                sums.append((low, stage(rest, f"sum_{stages}_{low}")))
            parts = sums
            stages += 1
        product = Signal(signed(PRODUCT_BITS))
        m.d.comb += product.eq(parts[0][1])

        # 7, 8: shifted; below the quotient are the guard bit and a sticky bit
        shifted: Value = Cat(Const(0, 2), product)
        for bits in ((5, 4, 3), (2, 1, 0)):
            for k in bits:
                places = 1 << k
                lost = shifted[: places + 1].any()
                by_places = Cat(lost, shifted[places + 1 :], shifted[-1].replicate(places))
                shifted = Mux(self.settings.shift[k], by_places, shifted)
                assert len(shifted) == PRODUCT_BITS + 2
            shifted = stage(shifted, f"shifted_{stages}")
            stages += 1

        # 9: rounded and limited. Beyond int32 rounding changes nothing.
        quotient = shifted[2:]
        up = shifted[1] & (shifted[0] | shifted[2])
        negative = quotient[-1]
        above = quotient[WIDE_BITS - 1 :]
        rounded = (quotient[:WIDE_BITS] + up)[:WIDE_BITS]
        fits = Mux(negative, above.all(), ~above.any() & ~rounded[-1])
        x = stage(Mux(fits, rounded, _limit(negative, WIDE_BITS)), "rounded").as_signed()
        stages += 1

        # 10: threshold, relu
        settings = self.settings
        threshold = Signal(signed(WIDE_BITS))
        opposite = Signal(signed(WIDE_BITS + 1))
        with m.If(settings.enable):
            m.d.sync += [
                threshold.eq(settings.threshold),
                opposite.eq(-settings.threshold.as_signed()),
            ]
        small = (x < threshold) & (x > opposite)
        drop = small | (settings.relu & (x < 0))
        x = stage(Mux(drop, 0, x), "kept").as_signed()
        stages += 1

        # 11: clamp
        low, high = settings.low.as_signed(), settings.high.as_signed()
        bottom = Signal(signed(WIDE_BITS))
        with m.If(settings.enable):
            m.d.sync += bottom.eq(Mux(low > high, high, low))
        x = stage(Mux(x < low, bottom, Mux(x > high, high, x)), "clamped")
        stages += 1

        # 12: the output's type
        m.d.comb += self.o.eq(stage(Mux(self.narrow, _limited(x, NARROW_BITS), x), "output"))
        stages += 1
        assert stages == self.latency
        return m
