"""The dot leaf's sums, with their order of additions (docs/architecture.md, "The leaf")."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import DOT_RING, NumberFormat
from loopnest_hw.descriptor import Reduction

from .arith import Flags, Wide, reduce_pair, wide_type
from .chains import sum_chains


def dot(
    values: Wide,
    valid: Flags,
    last: Flags,
    fmt: NumberFormat,
    reduction: Reduction = Reduction.SUM,
) -> tuple[Wide, Flags, bool]:
    """Sum the fibers of a sequence of steps, as `dot_fibers` does; ``last[s]`` ends a fiber.

    Steps after the last end do not belong to a fiber yet.
    """
    ends = np.flatnonzero(last)
    n = int(ends[-1]) + 1 if len(ends) else 0
    fiber = np.concatenate([[0], np.cumsum(last)])[:n].astype(np.int64)
    return dot_fibers(values[:n], valid[:n], fiber, len(ends), fmt, reduction)


def dot_fibers(
    values: Wide,
    valid: Flags,
    fiber: NDArray[Any],
    fibers: int,
    fmt: NumberFormat,
    reduction: Reduction = Reduction.SUM,
) -> tuple[Wide, Flags, bool]:
    """Sum each fiber: a tree over the lanes, partial sums over the steps, a tree over those.

    Parameters
    ----------
    values : NDArray
        Wide values, shape ``(steps, M)``.
    valid : Flags
        Shape ``(steps, M)``: the lane has a value.
    fiber : NDArray
        Shape ``(steps,)``: the number of each step's fiber, ascending, below ``fibers``.
    fibers : int
        Number of fibers.
    fmt : NumberFormat
        The chip's number format.
    reduction : Reduction
        Replaces the sum.

    Returns
    -------
    sums : NDArray
        Shape ``(fibers,)``; 0 if the fiber has no valid lane.
    any : Flags
        Shape ``(fibers,)``: the fiber had a valid lane.
    overflow : bool
        Some addition overflowed.
    """
    steps, has_steps, overflow = _tree(values, valid, fmt, reduction)
    # step s of a fiber is added to its partial sum s mod 4
    starts = np.searchsorted(fiber, np.arange(fibers))
    entry = (np.arange(len(fiber)) - starts[fiber]) % DOT_RING
    chain = (fiber * DOT_RING + entry)[has_steps]
    chains, sums, flag = sum_chains(steps[has_steps], chain, fmt, reduction)
    ring = np.zeros((fibers, DOT_RING), wide_type(fmt))
    stored = np.zeros((fibers, DOT_RING), np.bool_)
    ring.reshape(-1)[chains] = sums
    stored.reshape(-1)[chains] = True
    total, some, tail_flag = _tree(ring, stored, fmt, reduction)
    return total, some, overflow | flag | tail_flag


def _tree(
    values: Wide, valid: Flags, fmt: NumberFormat, reduction: Reduction
) -> tuple[Wide, Flags, bool]:
    """Add ``((0+1)+(2+3))+...`` along the last axis; if one summand is absent, the other passes."""
    overflow = False
    values = np.where(valid, values, wide_type(fmt)(0))
    while values.shape[-1] > 1:
        a, b = values[..., 0::2], values[..., 1::2]
        has_a, has_b = valid[..., 0::2], valid[..., 1::2]
        total, flags = reduce_pair(a, b, reduction, fmt)
        both = has_a & has_b
        overflow |= bool((flags & both).any())
        values = np.where(both, total, np.where(has_a, a, b))
        valid = has_a | has_b
    return values[..., 0], valid[..., 0], overflow
