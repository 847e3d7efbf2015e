"""fp32 multiplication by a factor of few significant bits."""

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .float32 import (
    BIAS,
    FLOAT32,
    SIGNIFICAND_BITS,
    UNROUNDED,
    is_infinite,
    is_nan,
    is_zero,
    rounded,
    significand,
)
from .wire import wire

PART_BITS = 6
"""Maximum bits of the second significand that are multiplied at once."""

FLAGS = data.StructLayout(
    {
        "exponent": signed(10),
        "next_exponent": signed(10),
        "sign": 1,
        "zero": 1,
        "infinite": 1,
        "nan": 1,
    }
)
"""The product without its significand; ``next_exponent`` is the exponent if the significand is 2 or
more.
"""


class FpMul(wiring.Component):
    """``o = a * b``, rounded to nearest even, one per cycle.

    Subnormal inputs are zeros of their sign, and so is a product whose exact magnitude is below
    2^-126. Every NaN is `float32.NAN`.

    Parameters
    ----------
    significant : int
        Significant bits of ``b``, the leading one counted: 8 for a bf16, 24 for any fp32. Bits
        below them are ignored.

    Members
    -------
    load : In(3)
        ``load[n]``: stage n takes its input (`delay.Flow`). While it is low, its registers hold.
    a, b : In(32)
    o : Out(32), from a register
        The product of the ``a`` and ``b`` of `latency` advances before.
    """

    latency: ClassVar[int] = 3

    def __init__(self, significant: int) -> None:
        if not 2 <= significant <= SIGNIFICAND_BITS:
            raise ValueError(f"significant={significant}: expected 2 to {SIGNIFICAND_BITS}")
        self.significant = significant
        super().__init__({"load": In(self.latency), "a": In(32), "b": In(32), "o": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a = data.View(FLOAT32, self.a)
        ignored = SIGNIFICAND_BITS - self.significant
        b = Signal(FLOAT32)
        m.d.comb += b.as_value().eq(Cat(Const(0, ignored), self.b[ignored:]))

        # 1: the significand's parts
        factor = significand(b)[ignored:]
        pieces = -(-self.significant // PART_BITS)
        width = -(-self.significant // pieces)
        cuts = range(0, self.significant, width)
        parts = [
            Signal(SIGNIFICAND_BITS + width, name=f"part_{cut}", reset_less=True) for cut in cuts
        ]
        flags = Signal(FLAGS, reset_less=True)
        with m.If(self.load[0]):
            for part, cut in zip(parts, cuts, strict=True):
                m.d.sync += part.eq(significand(a) * factor[cut : cut + width])
            m.d.sync += [
                # both are computed; the product arrives late in the cycle
                flags.exponent.eq(a.exponent + b.exponent - BIAS),
                flags.next_exponent.eq(a.exponent + b.exponent - (BIAS - 1)),
                flags.sign.eq(a.sign ^ b.sign),
                flags.zero.eq(is_zero(a) | is_zero(b)),
                flags.infinite.eq(is_infinite(a) | is_infinite(b)),
                flags.nan.eq(
                    is_nan(a)
                    | is_nan(b)
                    | (is_infinite(a) & is_zero(b))
                    | (is_zero(a) & is_infinite(b))
                ),
            ]

        # 2: their sum, its leading one brought to the top: it lies in one of two places
        total = sum(part << cut for part, cut in zip(parts, cuts, strict=True))
        product = wire(m, "product", total[: SIGNIFICAND_BITS + self.significant])
        large = product[-1]
        normal = wire(m, "normal", Mux(large, product, product << 1))
        below = self.significant
        unrounded = Signal(UNROUNDED, reset_less=True)
        with m.If(self.load[1]):
            m.d.sync += [
                unrounded.fraction.eq(normal[below:]),
                unrounded.guard.eq(normal[below - 1]),
                unrounded.sticky.eq(normal[: below - 1].any()),
                unrounded.exponent.eq(Mux(large, flags.next_exponent, flags.exponent)),
                unrounded.sign.eq(flags.sign),
                unrounded.zero.eq(flags.zero),
                unrounded.infinite.eq(flags.infinite),
                unrounded.nan.eq(flags.nan),
            ]

        # 3: rounding
        result = Signal(32, reset_less=True)
        m.d.comb += self.o.eq(result)
        with m.If(self.load[2]):
            m.d.sync += result.eq(rounded(unrounded))
        return m
