"""Sums of many chains of values at once, each in order, bit for bit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat
from loopnest_hw.descriptor import Reduction

from .arith import NAN, SMALLEST, Wide, add, canonical, from_ordered, least, ordered

EXACT_BITS = int(np.float32(2.0**-102).view(np.uint32))
"""Numbers of this magnitude or more are multiples of 2^-125, as are their rounded sums: none of
them is subnormal.
"""

FEW_CHAINS = 64
"""Below this number of chains, those that take care are summed one at a time."""

MAX_SPAN = 8
"""Chains are counted where their numbers spread over at most this many times the values; otherwise
they are sorted.
"""

DIGIT_BITS = 16
"""Chains are sorted by digits of this many bits: the widest that NumPy sorts in linear time."""


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
    chains, place = _places(chain)
    if reduction is not Reduction.SUM:
        return chains, _extremes(values, place, len(chains), reduction), False
    # -0 + x is x, for +0 and -0 too
    sums = np.full(len(chains), -0.0).astype(values.dtype)
    with np.errstate(all="ignore"):
        np.add.at(sums, place, values)  # in order, each rounded
    if fmt is not NumberFormat.INT8:
        canonical(sums)
    overflow = False
    rare = _rare(values, place, len(chains), fmt)
    if rare.any():
        some = rare[place]
        sums[rare], overflow = _sum_with_care(values[some], place[some], fmt)
    return chains, sums, overflow


def _places(chain: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct chains, ascending, and the place of each value's among them."""
    low = int(chain.min())
    offset = chain - low
    span = int(offset.max()) + 1
    if span <= MAX_SPAN * len(chain):
        there = np.zeros(span, np.bool_)
        there[offset] = True
        distinct = np.flatnonzero(there)
        return distinct.astype(chain.dtype) + low, (np.cumsum(there) - 1)[offset]
    order = stable_order(offset)
    ordered = chain[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    place = np.empty(len(chain), np.int64)
    place[order] = np.cumsum(new) - 1
    return ordered[new], place


def stable_order(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Return the stable order of non-negative numbers."""
    if not (numbers[1:] < numbers[:-1]).any():
        return np.arange(len(numbers))
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    for shift in range(DIGIT_BITS, int(numbers.max()).bit_length(), DIGIT_BITS):
        digit = (numbers >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _extremes(values: Wide, place: NDArray[np.int64], chains: int, reduction: Reduction) -> Wide:
    """Return the minimum or maximum of the values at each place."""
    limits = np.iinfo(np.int32)
    if reduction is Reduction.MIN:
        found = np.full(chains, limits.max, np.int32)
        np.minimum.at(found, place, ordered(values))
    else:
        found = np.full(chains, limits.min, np.int32)
        np.maximum.at(found, place, ordered(values))
    extremes = from_ordered(found, values.dtype)
    if values.dtype == np.float32:
        extremes[place[np.isnan(values)]] = NAN
    return extremes


def _rare(
    values: Wide, place: NDArray[np.int64], chains: int, fmt: NumberFormat
) -> NDArray[np.bool_]:
    """Return the chains in which a sum may overflow int32 or be flushed."""
    if fmt is NumberFormat.INT8:
        bound = np.bincount(place, np.abs(values.astype(np.float64)), chains)
        return bound > np.iinfo(np.int32).max
    rare = np.zeros(chains, np.bool_)
    magnitude = values.view(np.uint32) & np.uint32(0x7FFFFFFF)
    if least(magnitude) < EXACT_BITS:
        rare[place[(magnitude > 0) & (magnitude < EXACT_BITS)]] = True
    return rare


def _sum_with_care(values: Wide, chain: NDArray[np.int64], fmt: NumberFormat) -> tuple[Wide, bool]:
    """Return the sum of each chain, by number, and whether an addition overflowed."""
    order = stable_order(chain)
    values, chain = values[order], chain[order]
    starts = np.concatenate([[0], np.flatnonzero(chain[1:] != chain[:-1]) + 1])
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
    return sums, overflow


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
                return canonical(sums[-1:])[0], False
            # a sum is flushed: continue from there
            values = values[tiny[0] :]
            values[0] = np.copysign(np.float32(0), sums[tiny[0]])
