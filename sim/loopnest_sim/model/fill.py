"""Golden function of the filler: full result fibers (hw result/filler.py)."""

import numpy as np

from loopnest_hw.config import LANES

from .blocks import Blocks


def fill(blocks: Blocks, size: int, fill: int = 0) -> Blocks:
    """Return each fiber with all its ``size`` coordinates, untouched ones having the bits ``fill``.

    The last block ends a fiber. A block at or above ``size`` is unchanged. A fiber has an item of
    mask 0 if it has no other, or if such an item arrives after all its coordinates.
    """
    whole = -(-size // LANES)
    number = blocks.fiber_number
    fibers = int(blocks.last.sum())
    ends = np.flatnonzero(blocks.last)

    has = blocks.mask != 0
    inside = has & (blocks.coordinate < whole)
    value = np.full((fibers * whole, LANES), fill, np.uint32)
    value[number[inside] * whole + blocks.coordinate[inside]] = np.where(
        blocks.lanes[inside], blocks.value[inside], np.uint32(fill)
    )
    mask = np.full((fibers, whole), (1 << LANES) - 1, np.int64)
    if size % LANES:
        mask[:, -1] = (1 << size % LANES) - 1

    # The other items: blocks beyond the size, and ends that no block can carry.
    reached = np.full(fibers, -1)
    np.maximum.at(reached, number[has], blocks.coordinate[has])
    bare = np.zeros(len(blocks), np.bool_)
    bare[ends] = ~has[ends] & (reached >= whole - 1)
    extra = blocks[(has & ~inside) | bare]
    numbers = np.concatenate([np.repeat(np.arange(fibers), whole), number[(has & ~inside) | bare]])

    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    last = np.ones(len(numbers), np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    return Blocks.of(
        np.concatenate([np.tile(np.arange(whole), fibers), extra.coordinate])[order],
        np.concatenate([mask.reshape(-1), extra.mask])[order],
        np.concatenate([value, extra.value])[order],
        blocks.fiber[ends][numbers],
        last=last,
        final=last & blocks.final[ends][numbers],
    )
