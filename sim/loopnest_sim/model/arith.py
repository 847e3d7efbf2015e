"""Multiply and add as the chip does, on whole arrays, bit for bit.

Wide values are NumPy arrays: ``float32`` on a bf16 chip (never subnormal, NaN is 0x7fc00000),
``int32`` on an int8 chip. Every function takes arrays of any shape. An int32 operation that
overflows wraps, and the function returns which elements did; on a bf16 chip none do.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Reduction

Wide = NDArray[Any]
"""float32 or int32, by the chip's number format."""

Flags = NDArray[np.bool_]

SMALLEST = np.float32(2.0**-126)
"""Smallest normal magnitude; a result whose exact magnitude is smaller becomes a zero of its
sign.
"""

SMALLEST_BITS = int(SMALLEST.view(np.uint32))
INFINITY_BITS = int(np.float32(np.inf).view(np.uint32))

NAN = np.uint32(0x7FC00000).view(np.float32)
"""The only NaN."""


def wide_type(fmt: NumberFormat) -> type[np.float32] | type[np.int32]:
    """Return the element type of the format's wide values."""
    return np.int32 if fmt is NumberFormat.INT8 else np.float32


def _none(shape: tuple[int, ...]) -> Flags:
    return np.broadcast_to(np.False_, shape)


def canonical(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x with NaNs made canonical and subnormals flushed, in place."""
    if not x.size:
        return x
    magnitude = x.view(np.uint32) & np.uint32(0x7FFFFFFF)
    if least(magnitude) < SMALLEST_BITS:
        x[magnitude < SMALLEST_BITS] *= np.float32(0)
    if magnitude.max() > INFINITY_BITS:
        x[magnitude > INFINITY_BITS] = NAN
    return x


def least(magnitude: NDArray[np.uint32]) -> int:
    """Return the bits of the least magnitude that is not 0, or 2^32 if there is none."""
    # less 1, so that 0 becomes the largest number
    return int((np.atleast_1d(magnitude) - np.uint32(1)).min()) + 1


def widen(raw: NDArray[Any], fmt: NumberFormat, wide: bool = False) -> Wide:
    """Return raw values from memory as wide ones.

    Parameters
    ----------
    raw : NDArray
        bf16 chip: the bits, ``uint16`` (narrow) or ``uint32`` (wide). int8 chip: ``int8`` or
        ``uint8``, ``int32`` or ``uint32``. A wider type is cut to its low bits.
    fmt : NumberFormat
        The chip's number format.
    wide : bool
        The values are wide in memory.

    Returns
    -------
    NDArray[float32] or NDArray[int32]
        A new array of raw's shape.
    """
    raw = np.asarray(raw)
    if fmt is NumberFormat.INT8:
        return raw.astype(np.int32 if wide else np.int8).astype(np.int32)
    if wide:
        bits = raw.astype(np.uint32)
    else:
        bits = raw.astype(np.uint16).astype(np.uint32) << np.uint32(16)
    return canonical(bits.view(np.float32))


def to_bf16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of x rounded to bf16, to nearest even; NaN is 0x7fc0."""
    bits = canonical(np.array(x, np.float32)).view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    return (bits + np.uint32(0x7FFF) + odd >> np.uint32(16)).astype(np.uint16)


def multiply(a: Wide, b: Wide, fmt: NumberFormat) -> tuple[Wide, Flags]:
    """Return a * b and where it overflowed.

    The lanes' multiplier takes one narrow factor; this takes any two (the epilogue scales fp32
    by fp32).
    """
    if fmt is NumberFormat.INT8:
        exact = np.multiply(a, b, dtype=np.int64)
        wrapped = exact.astype(np.int32)
        return wrapped, wrapped != exact
    with np.errstate(all="ignore"):
        product = np.asarray(np.multiply(a, b, dtype=np.float32))
        # a smaller one may have been rounded up to it
        edge = np.abs(product) == SMALLEST
        if edge.any():
            # a product of two 24-bit significands is exact in float64
            exact = np.multiply(a, b, dtype=np.float64)
            product[edge & (np.abs(exact) < SMALLEST)] *= np.float32(0)
        return canonical(product), _none(product.shape)


def add(a: Wide, b: Wide, fmt: NumberFormat) -> tuple[Wide, Flags]:
    """Return a + b and where it overflowed."""
    with np.errstate(all="ignore"):
        total = np.asarray(np.add(a, b, dtype=wide_type(fmt)))
        if fmt is NumberFormat.INT8:
            return total, ((a ^ total) & (b ^ total)) < 0
        # a subnormal sum of fp32 numbers is exact, so it is flushed before rounding
        return canonical(total), _none(total.shape)


def extreme(a: Wide, b: Wide, reduction: Reduction) -> Wide:
    """Return the minimum or maximum of a and b: -0 is below +0, and NaN is either extreme."""
    pick = np.minimum if reduction is Reduction.MIN else np.maximum
    chosen = from_ordered(pick(ordered(a), ordered(b)), np.asarray(a).dtype)
    return np.where(np.isnan(a) | np.isnan(b), NAN, chosen) if a.dtype == np.float32 else chosen


def ordered(x: Wide) -> NDArray[np.int32]:
    """Return integers in the order of the numbers."""
    bits = np.asarray(x).view(np.int32)
    return bits ^ (bits >> 31 & np.int32(0x7FFFFFFF)) if x.dtype == np.float32 else bits


def from_ordered(x: NDArray[np.int32], dtype: Any) -> Wide:
    """Return the numbers whose integers by `ordered` these are."""
    return (x ^ (x >> 31 & np.int32(0x7FFFFFFF))).view(dtype) if dtype == np.float32 else x


def reduce_pair(a: Wide, b: Wide, reduction: Reduction, fmt: NumberFormat) -> tuple[Wide, Flags]:
    """Return the sum, minimum or maximum of a and b, and where a sum overflowed."""
    if reduction is Reduction.SUM:
        return add(a, b, fmt)
    result = extreme(a, b, reduction)
    return result, _none(result.shape)


def negate(a: Wide, fmt: NumberFormat) -> tuple[Wide, Flags]:
    """Return -a and where it overflowed (int32 has no 2^31). NaN stays NaN."""
    if fmt is NumberFormat.INT8:
        return np.negative(a), a == np.iinfo(np.int32).min
    return canonical(np.negative(a)), _none(a.shape)
