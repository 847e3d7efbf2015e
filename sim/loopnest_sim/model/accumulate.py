"""The accumulator's sums and passes (docs/architecture.md, "The accumulator")."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS, LANES, NumberFormat
from loopnest_hw.descriptor import Reduction

from .arith import Wide
from .assemble import assemble
from .blocks import Blocks
from .chains import sum_chains


def accumulate(
    key: NDArray[Any],
    value: Wide,
    number: NDArray[Any],
    fiber: NDArray[Any],
    *,
    fmt: NumberFormat,
    reduction: Reduction = Reduction.SUM,
) -> tuple[Blocks, bool]:
    """Return the result blocks of n terms, and whether an addition overflowed.

    Parameters
    ----------
    key, value, number : NDArray
        Shape ``(n,)``, in the order of the tokens: 16 * block + lane, the wide value, and the
        number of its result fiber, ascending.
    fiber : NDArray
        Shape ``(fibers,)``: the positions of the result fibers, the nest's last one last.
    fmt : NumberFormat
        The chip's number format.
    reduction : Reduction
        How the terms of a key are combined.
    """
    fibers = len(fiber)
    chain = (np.asarray(number, np.int64) << COORDINATE_BITS) + key
    chains, sums, overflow = sum_chains(value, chain, fmt, reduction)
    keys = chains & ((1 << COORDINATE_BITS) - 1)
    # one item for each sum, then one for each fiber's end
    numbers = np.concatenate([chains >> COORDINATE_BITS, np.arange(fibers)])
    order = np.argsort(numbers, kind="stable")

    def items(of_sums: NDArray[Any], at_end: Any) -> NDArray[Any]:
        return np.concatenate([of_sums, np.full(fibers, at_end, of_sums.dtype)])[order][:, None]

    end = ~items(np.ones(len(keys), np.bool_), False)[:, 0]
    blocks = assemble(
        items(np.ones(len(keys), np.bool_), False),
        items(sums.view(np.uint32), 0),
        items(keys % LANES, 0),
        items(keys // LANES, 0),
        np.asarray(fiber)[numbers[order]],
        end=end,
        final=end & (numbers[order] == fibers - 1),
    )
    return blocks, overflow


WORD = 32
"""Blocks of a directory word, which is evicted as a whole when slots run out."""


def give_way(held: Sequence[int], block: int, least: int) -> int:
    """Return how many of the held blocks (ascending) stay when `block` gets no slot.

    The highest words are evicted, down to the block's, until ``least`` blocks are; if `block` is in
    the highest word, only the highest block, which may be `block` itself.
    """
    word = block // WORD
    if block > held[-1]:
        return len(held)
    if word == held[-1] // WORD:
        return len(held) - 1
    stay = len(held)
    while stay and len(held) - stay < least and held[stay - 1] // WORD > word:
        stay = bisect_left(held, held[stay - 1] // WORD * WORD, 0, stay)
    return stay


def passes(lookups: Iterable[Sequence[int]], slots: int, evicted_slots: int) -> tuple[int, int]:
    """Return the number of passes of a result fiber, and of slots evicted from it, on a chip with
    these fields of its configuration.

    ``lookups`` are the block coordinates of each lookup, in order. (They depend on nothing else:
    while another fiber has slots, a lookup waits.)
    """
    blocks = [block for lookup in lookups for block in lookup]
    lower, count, evictions = 0, 0, 0
    while True:
        count += 1
        upper: int | None = None
        held: list[int] = []
        dropped: list[int] = []
        for block in blocks:
            if block < lower:
                continue
            at = bisect_left(held, block)
            inside = upper is None or block < upper
            if inside and at < len(held) and held[at] == block:
                continue
            if inside and len(held) == slots:
                kept = give_way(held, block, evicted_slots)
                upper = held[kept] if kept < slots else block
                dropped += held[kept:]
                evictions += slots - kept
                del held[kept:]
                inside = block < upper
            if inside:
                insort(held, block)
            else:
                dropped.append(block)
        if not dropped:
            return count, evictions
        lower = min(dropped)
