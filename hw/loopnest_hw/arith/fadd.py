"""fp32 addition, minimum and maximum."""

from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .carry_select import carry_select
from .float32 import (
    FLOAT32,
    FRACTION_BITS,
    SIGNIFICAND_BITS,
    UNROUNDED,
    is_infinite,
    is_nan,
    rounded,
    significand,
)
from .wire import wire

GUARD_BITS = 3
"""Bits below the significand that keep the rounding exact; the lowest is sticky."""

ALIGNED_BITS = SIGNIFICAND_BITS + GUARD_BITS
SUM_BITS = ALIGNED_BITS + 1

SPECIAL = data.StructLayout({"zero_sign": 1, "infinite": 1, "nan": 1})
"""Special cases of a sum; ``zero_sign`` is its sign if it is zero."""

ORDERED = data.StructLayout(
    {
        "big": SIGNIFICAND_BITS,
        "small": SIGNIFICAND_BITS,
        "distance": 8,
        "subtract": 1,
        "exponent": 8,
        "sign": 1,
        "special": SPECIAL,
    }
)
"""The number of larger magnitude and the smaller one, ``distance`` places apart."""

SUMMED = data.StructLayout({"sum": SUM_BITS, "exponent": 8, "sign": 1, "special": SPECIAL})
"""The exact sum; ``exponent`` belongs to the bit below its highest."""


class FpAdd(wiring.Component):
    """``o = a + b``, rounded to nearest even, or the smaller or the larger one; one per cycle.

    Subnormal inputs are zeros of their sign, and so is a sum whose exact magnitude is below 2^-126.
    Every NaN is `float32.NAN`, also as a minimum or maximum. Opposite numbers add to +0. -0 is less
    than +0.

    Members
    -------
    load : In(4)
        ``load[n]``: stage n takes its input (`delay.Flow`). While it is low, its registers hold.
    a, b : In(32)
    extreme : In(1), minimum : In(1)
        Instead of the sum: the minimum, or else the maximum.
    o : Out(32), from a register
        The result of the ``a`` and ``b`` of `latency` advances before.
    """

    latency: ClassVar[int] = 4

    load: In(latency)
    a: In(32)
    b: In(32)
    extreme: In(1)
    minimum: In(1)
    o: Out(32)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ordered = Signal(ORDERED, reset_less=True)
        summed = Signal(SUMMED, reset_less=True)
        unrounded = Signal(UNROUNDED, reset_less=True)
        result = Signal(32, reset_less=True)
        m.d.comb += self.o.eq(result)
        # outside the condition, which applies to the registers only
        stages = [
            order(
                m,
                ordered,
                data.View(FLOAT32, self.a),
                data.View(FLOAT32, self.b),
                self.extreme,
                self.minimum,
            ),
            align_and_sum(m, summed, ordered),
            normalise(m, unrounded, summed),
            [result.eq(rounded(unrounded))],
        ]
        for load, stage in zip(self.load, stages, strict=True):
            with m.If(load):
                m.d.sync += stage
        return m


def order(
    m: Module, o: data.View, a: data.View, b: data.View, extreme: Value, minimum: Value
) -> list[Any]:
    """First stage. A minimum or maximum continues as its sum with zero."""
    smaller = wire(m, "smaller", Cat(a.fraction, a.exponent) < Cat(b.fraction, b.exponent))
    opposite = a.sign ^ b.sign
    loses = a.sign ^ minimum ^ (smaller & ~opposite)
    swap = wire(m, "swap", Mux(extreme, loses, smaller))
    sign = Mux(swap, b.sign, a.sign)
    infinite = Mux(swap, is_infinite(b), is_infinite(a))
    # both differences are computed; the comparison selects one
    ahead = a.exponent - b.exponent
    behind = b.exponent - a.exponent
    return [
        o.big.eq(Mux(swap, significand(b), significand(a))),
        o.small.eq(Mux(extreme, 0, Mux(swap, significand(a), significand(b)))),
        o.distance.eq(Mux(swap, behind, ahead)),
        o.subtract.eq(opposite & ~extreme),
        o.exponent.eq(Mux(swap, b.exponent, a.exponent)),
        o.sign.eq(sign),
        o.special.zero_sign.eq(Mux(extreme, sign, a.sign & b.sign)),
        # an infinity is the larger one
        o.special.infinite.eq(infinite),
        o.special.nan.eq(
            is_nan(a) | is_nan(b) | (is_infinite(a) & is_infinite(b) & opposite & ~extreme)
        ),
    ]


def align_and_sum(m: Module, o: data.View, i: data.View) -> list[Any]:
    """Second stage."""
    aligned: Value = Cat(Const(0, GUARD_BITS), i.small)
    lost = []
    for bit in range(ALIGNED_BITS.bit_length()):
        places = 1 << bit
        lost.append(i.distance[bit] & aligned[:places].any())
        shifted = Mux(i.distance[bit], aligned[places:], aligned)
        aligned = wire(m, f"aligned_{places}", shifted)
    # then the smaller number only sets the sticky bit
    far = wire(m, "far", i.distance[ALIGNED_BITS.bit_length() :].any())
    sticky = Mux(far, i.small.any(), Cat(lost).any() | aligned[0])
    kept = Cat(sticky, aligned[1:] & (~far).replicate(ALIGNED_BITS - 1))
    addend = wire(m, "addend", kept ^ i.subtract.replicate(ALIGNED_BITS))
    total = carry_select(m, Cat(Const(0, GUARD_BITS), i.big), addend, i.subtract)
    # big - small is never negative, so its carry out is not needed
    carry = total[ALIGNED_BITS] & ~i.subtract
    return [
        o.sum.eq(Cat(total[:ALIGNED_BITS], carry)),
        o.exponent.eq(i.exponent),
        o.sign.eq(i.sign),
        o.special.eq(i.special),
    ]


def normalise(m: Module, o: data.View, i: data.View) -> list[Any]:
    """Third stage."""
    zeros, zero = leading_zeros(m, i.sum)
    normal: Value = i.sum
    for bit in reversed(range(len(zeros))):
        places = 1 << bit
        shifted = Mux(zeros[bit], (normal << places)[:SUM_BITS], normal)
        normal = wire(m, f"normal_{places}", shifted)
    below = SUM_BITS - SIGNIFICAND_BITS
    return [
        o.fraction.eq(normal[below : below + FRACTION_BITS]),
        o.guard.eq(normal[below - 1]),
        o.sticky.eq(normal[: below - 1].any()),
        o.exponent.eq(i.exponent + 1 - zeros),
        o.sign.eq(Mux(zero, i.special.zero_sign, i.sign)),
        o.zero.eq(zero),
        o.infinite.eq(i.special.infinite),
        o.nan.eq(i.special.nan),
    ]


def leading_zeros(m: Module, bits: Value) -> tuple[Value, Value]:
    """Return the number of zeros above the highest one, and whether all are zeros."""
    # padded below to a power of two; each level halves the number of groups
    filled = Cat(Const(0, (1 << (len(bits) - 1).bit_length()) - len(bits)), bits)
    counts: list[tuple[Value, Value]] = [(Const(0, 0), ~bit) for bit in filled]
    while len(counts) > 1:
        merged = []
        for n, (low, high) in enumerate(zip(counts[0::2], counts[1::2], strict=True)):
            count = Cat(Mux(high[1], low[0], high[0]), high[1])
            group = f"{len(counts) // 2}_{n}"
            zero = wire(m, f"zero_{group}", high[1] & low[1])
            merged.append((wire(m, f"zeros_{group}", count), zero))
        counts = merged
    return counts[0]
