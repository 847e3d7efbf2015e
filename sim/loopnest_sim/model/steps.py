"""Cuts the leaf's blocks into steps (docs/architecture.md, "The leaf"), for all fibers at once."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import BANK_SKEW, LANES
from loopnest_hw.descriptor import LeafMode

from .fibers import Masks
from .nest import Indices

Flags = NDArray[np.bool_]


@dataclass
class Steps:
    """The steps of some blocks.

    ``taken[b]`` lanes of block b filled up the step that emptied the block before it, after that
    step's ``filled[b]`` lanes; then ``count[b]`` steps begin in block b.
    """

    taken: Indices
    filled: Indices
    count: Indices

    @property
    def total(self) -> int:
        """Total number of steps that have lanes."""
        return int(self.count.sum())


@cache
def _highest_lanes(multipliers: int) -> NDArray[np.uint16]:
    """Return ``[swapped, r, mask]``: the highest r lanes of the mask or, if swapped, the lanes of
    the same banks in a block with another skew.
    """
    masks = np.arange(1 << LANES)
    both = np.zeros((2, multipliers + 1, 1 << LANES), np.uint16)
    found = both[0]
    left = masks.copy()
    for r in range(1, multipliers + 1):
        _, exponent = np.frexp(left)
        highest = np.where(left > 0, 1 << np.maximum(exponent - 1, 0), 0)
        left -= highest
        found[r] = found[r - 1] | highest
    for lane in range(LANES):
        both[1] |= (found >> lane & 1) << (lane ^ BANK_SKEW)
    return both


def form_steps(
    fiber: Indices, lanes: Masks, multipliers: int, mode: LeafMode, skewed: Flags
) -> Steps:
    """Form the steps of the fibers' blocks.

    Parameters
    ----------
    fiber : NDArray
        Shape ``(n,)``: each block's fiber, ascending.
    lanes : NDArray
        Shape ``(n,)``: each block's kept lanes, none of them 0.
    multipliers : int
        M.
    mode : LeafMode
        In ``AXPY`` a step stops at a bank that it has already taken; in ``SCATTER`` it has one
        lane.
    skewed : NDArray
        Shape ``(n,)``: each block's lanes are in skewed banks of the accumulator (`skew`). Only
        used in ``AXPY``.
    """
    count = np.bitwise_count(lanes).astype(np.int64)
    n = len(lanes)
    if mode is LeafMode.SCATTER or multipliers == 1:
        nothing = np.zeros(n, np.int64)
        return Steps(nothing, nothing, count)
    taken = np.zeros(n, np.int64)
    # where every block ends with a full step, none is taken
    if (count % multipliers).any():
        axpy = mode is LeafMode.AXPY
        swaps = skewed[1:] != skewed[:-1] if axpy else None
        taken[1:] = _taken(fiber, lanes, count.astype(np.int8), multipliers, swaps)
    left = count - taken
    filled = np.zeros(n, np.int64)
    filled[1:] = (left[:-1] - 1) % multipliers + 1
    return Steps(taken, filled, -(-left // multipliers))


def _taken(
    fiber: Indices,
    lanes: Masks,
    count: NDArray[np.int8],
    multipliers: int,
    swaps: Flags | None,
) -> Indices:
    """Return `Steps.taken` of all blocks but the first.

    A step takes a bank once unless ``swaps`` is None; it is set where a block's skew is not that of
    the block before it.

    The number of lanes that a block loses to the previous step depends on how many the block before
    it lost, 0 to M-1. So each block is first a function on these M values; then functions are
    composed over twice as many blocks per round, until each is a constant. Most are constant
    immediately: a fiber's first block loses none.
    """
    m, n = multipliers, len(lanes) - 1
    first = fiber[1:] != fiber[:-1]
    highest = _highest_lanes(m)
    before, after = lanes[:-1].astype(np.intp), lanes[1:]
    if swaps is not None:
        before += swaps * np.intp((m + 1) << LANES)
    table = np.empty((m, n), np.int8)
    for lost_before in range(m):
        left = count[:-1] - np.int8(lost_before)
        in_last_step = (left - np.int8(1) & np.int8(m - 1)) + np.int8(1)
        lost = np.minimum(np.int8(m) - in_last_step, count[1:])
        if swaps is not None:
            # entry [swapped, r, mask] of the flat table
            again = highest.take((in_last_step.astype(np.intp) << LANES) + before) & after
            no_conflict = np.bitwise_count((again & -again) - np.uint16(1) & after)
            lost = np.minimum(lost, no_conflict.view(np.int8))
        # no lane remains: the block was used up by the previous step, and a new step begins after
        # it
        lost *= left > 0
        lost *= ~first
        table[lost_before] = lost
    # no lane is lost before the first block
    table[:, :1] = table[0, :1]

    def is_open(part: NDArray[np.int8]) -> NDArray[np.bool_]:
        different = np.zeros(part.shape[1], np.bool_)
        for row in part[1:]:
            different |= row != part[0]
        return different

    flat = table.reshape(-1)
    distance = 1
    blocks = np.flatnonzero(is_open(table))
    while len(blocks):
        composed = np.stack(
            [flat[row[blocks - distance].astype(np.intp) * n + blocks] for row in table]
        )
        table[:, blocks] = composed
        blocks = blocks[is_open(composed)]
        distance *= 2
    return table[0].astype(np.int64)


def places(steps: Steps, block: Indices, multipliers: int) -> tuple[Indices, Indices]:
    """Return the number of each lane's step and its place in that step.

    ``block`` is the block of each lane, lanes in order.
    """
    starts = np.searchsorted(block, np.arange(len(steps.count)))
    first_step = np.cumsum(steps.count) - steps.count
    behind = np.arange(len(block)) - (starts + steps.taken)[block]
    filler = behind < 0
    step = first_step[block] + behind // multipliers
    slot = behind % multipliers
    step[filler] = first_step[block[filler]] - 1
    slot[filler] = (steps.filled + steps.taken)[block[filler]] + behind[filler]
    return step, slot
