"""Common to fp32's adder and multiplier: layout, unpacking and rounding (the last stage)."""

from amaranth.hdl import Cat, Const, Mux, Value, signed
from amaranth.lib import data

FRACTION_BITS = 23
SIGNIFICAND_BITS = FRACTION_BITS + 1
BIAS = 127

FLOAT32 = data.StructLayout({"fraction": FRACTION_BITS, "exponent": 8, "sign": 1})

NAN = 0x7FC00000
"""The only NaN."""

UNROUNDED = data.StructLayout(
    {
        "fraction": FRACTION_BITS,
        "exponent": signed(10),
        "sign": 1,
        "guard": 1,
        "sticky": 1,
        "zero": 1,
        "infinite": 1,
        "nan": 1,
    }
)
"""An exact result: ``2^(exponent - 127) * 1.fraction``, and the bits below the fraction.

``guard`` is the first bit below it; ``sticky`` is the OR of all further ones. ``zero``,
``infinite`` and ``nan`` override the number; the last of them has the highest priority.
"""


def is_nan(x: data.View) -> Value:
    """Return whether the `FLOAT32` is a NaN."""
    return x.exponent.all() & x.fraction.any()


def is_infinite(x: data.View) -> Value:
    """Return whether the `FLOAT32` is an infinity."""
    return x.exponent.all() & ~x.fraction.any()


def is_zero(x: data.View) -> Value:
    """Return whether the `FLOAT32` is a zero or a subnormal, which counts as zero."""
    return ~x.exponent.any()


def significand(x: data.View) -> Value:
    """Return the `FLOAT32`'s significand with its leading one, or 0 for a zero."""
    normal = ~is_zero(x)
    return Cat(x.fraction & normal.replicate(FRACTION_BITS), normal)


def rounded(x: data.View) -> Value:
    """Return the `UNROUNDED` number in fp32, to nearest even, flushed below 2^-126."""
    up = x.guard & (x.sticky | x.fraction[0])
    # a carry out of the fraction increments the exponent, from the largest one to infinity
    number = (Cat(x.fraction, x.exponent[:8]) + up)[:31]
    flushed = x.zero | (x.exponent < 1)
    infinite = x.infinite | (x.exponent > 254)
    infinity = Const(0xFF << FRACTION_BITS, 31)
    magnitude = Mux(infinite, infinity, number & (~flushed).replicate(31))
    return Mux(x.nan, Const(NAN, 32), Cat(magnitude, x.sign))
