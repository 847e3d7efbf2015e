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

NAN = np.uint32(0x7FC00000).view(np.float32)
"""The only NaN."""

FEW_CHAINS = 64
"""Below this number of chains, `sum_chains` sums them one at a time."""


def wide_type(fmt: NumberFormat) -> type[np.float32] | type[np.int32]:
    """Return the element type of the format's wide values."""
    return np.int32 if fmt is NumberFormat.INT8 else np.float32


def _none(shape: tuple[int, ...]) -> Flags:
    return np.broadcast_to(np.False_, shape)


def _canonical(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x with NaNs made canonical and subnormals flushed, in place."""
    magnitude = np.abs(x)
    # one test for both rare cases: a comparison with NaN is false
    rare = ~(magnitude >= SMALLEST)
    if rare.any():
        x[rare & (magnitude < SMALLEST)] *= np.float32(0)
        x[np.isnan(x)] = NAN
    return x


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
    return _canonical(bits.view(np.float32))


def to_bf16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of x rounded to bf16, to nearest even; NaN is 0x7fc0."""
    bits = _canonical(np.array(x, np.float32)).view(np.uint32)
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
        # a product of two 24-bit significands is exact in float64, whose range is sufficient too
        exact = np.multiply(a, b, dtype=np.float64)
        # astype would round the largest tiny products up to 2^-126
        tiny = np.abs(exact) < SMALLEST
        if tiny.any():
            exact = np.where(tiny, np.copysign(0.0, exact), exact)
        product = np.asarray(exact.astype(np.float32))
        return _canonical(product), _none(product.shape)


def add(a: Wide, b: Wide, fmt: NumberFormat) -> tuple[Wide, Flags]:
    """Return a + b and where it overflowed."""
    with np.errstate(all="ignore"):
        total = np.asarray(np.add(a, b, dtype=wide_type(fmt)))
        if fmt is NumberFormat.INT8:
            return total, ((a ^ total) & (b ^ total)) < 0
        # a subnormal sum of fp32 numbers is exact, so it is flushed before rounding
        return _canonical(total), _none(total.shape)


def extreme(a: Wide, b: Wide, reduction: Reduction) -> Wide:
    """Return the minimum or maximum of a and b: -0 is below +0, and NaN is either extreme."""
    pick = np.minimum if reduction is Reduction.MIN else np.maximum
    chosen = _from_ordered(pick(_ordered(a), _ordered(b)), np.asarray(a).dtype)
    return np.where(np.isnan(a) | np.isnan(b), NAN, chosen) if a.dtype == np.float32 else chosen


def _ordered(x: Wide) -> NDArray[np.int32]:
    """Return integers in the order of the numbers."""
    bits = np.asarray(x).view(np.int32)
    return bits ^ (bits >> 31 & np.int32(0x7FFFFFFF)) if x.dtype == np.float32 else bits


def _from_ordered(x: NDArray[np.int32], dtype: Any) -> Wide:
    """Return the numbers whose integers by `_ordered` these are."""
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
    return _canonical(np.negative(a)), _none(a.shape)


def sum_chains(
    values: Wide,
    chain: NDArray[Any],
    fmt: NumberFormat,
    reduction: Reduction = Reduction.SUM,
) -> tuple[NDArray[Any], Wide, bool]:
    """Sum the values of each chain in order, each with a rounding: ``((v0 + v1) + v2) + ...``.

    With another `reduction`, find each chain's minimum or maximum.

    Parameters
    ----------
    values : NDArray
        Wide values, shape ``(n,)``.
    chain : NDArray
        Any integers, shape ``(n,)``: the chain of each value. Chains may mix.
    fmt : NumberFormat
        The chip's number format.
    reduction : Reduction
        How they are combined.

    Returns
    -------
    chains : NDArray
        The distinct chains, ascending.
    sums : NDArray
        The sum of each.
    overflow : bool
        Some addition overflowed.
    """
    if len(values) == 0:
        return chain[:0], values[:0], False
    if (chain[1:] < chain[:-1]).any():
        order = np.argsort(chain, kind="stable")
        values, chain = values[order], chain[order]
    starts = np.concatenate([[0], np.flatnonzero(chain[1:] != chain[:-1]) + 1])
    if reduction is not Reduction.SUM:
        return chain[starts], _extremes(values, starts, reduction), False
    lengths = np.diff(starts, append=len(values))
    sums = values[starts]
    overflow = False

    # all chains at once, n-th value by n-th value, longest chain first
    longest = np.argsort(-lengths, kind="stable")
    shorter = lengths[longest][::-1]
    done = 1
    while True:
        active = len(longest) - int(np.searchsorted(shorter, done, side="right"))
        if active < FEW_CHAINS:
            break
        some = longest[:active]
        sums[some], flags = add(sums[some], values[starts[some] + done], fmt)
        overflow |= bool(flags.any())
        done += 1
    # the few remaining chains, each along its length
    for c in longest[:active]:
        rest = values[starts[c] + done : starts[c] + lengths[c]]
        sums[c], flag = _sum_in_order(sums[c], rest, fmt)
        overflow |= flag
    return chain[starts], sums, overflow


def _extremes(values: Wide, starts: NDArray[Any], reduction: Reduction) -> Wide:
    """Return the minimum or maximum of the values from each start to the next."""
    pick = np.minimum if reduction is Reduction.MIN else np.maximum
    found = _from_ordered(pick.reduceat(_ordered(values), starts), values.dtype)
    if values.dtype == np.float32:
        found = np.where(np.logical_or.reduceat(np.isnan(values), starts), NAN, found)
    return found


def _sum_in_order(first: Any, rest: Wide, fmt: NumberFormat) -> tuple[Any, bool]:
    """Return first + rest[0] + rest[1] + ..., rounded at each, and whether it overflowed."""
    if fmt is NumberFormat.INT8:
        # up to the first overflow, the sums are the exact ones
        exact = np.add.accumulate(np.concatenate([[first], rest]), dtype=np.int64)
        wrapped = exact.astype(np.int32)
        return wrapped[-1], bool((wrapped != exact).any())
    values = np.concatenate([[first], rest]).astype(np.float32)
    with np.errstate(all="ignore"):
        while True:
            sums = np.add.accumulate(values)
            tiny = np.flatnonzero((np.abs(sums) < SMALLEST) & (sums != 0))
            if len(tiny) == 0:
                return _canonical(sums[-1:])[0], False
            # a sum is flushed: continue from there
            values = values[tiny[0] :]
            values[0] = np.copysign(np.float32(0), sums[tiny[0]])
