"""The leaf, for many tokens at once: computes their lanes' values, and sums them by fiber for
DOT.
"""

from dataclasses import dataclass

import numpy as np

from loopnest_hw.config import WIDE_BITS
from loopnest_hw.descriptor import LeafMode, ResultMode

from ..image import Image
from .arith import Wide, wide_type
from .dot import dot_fibers
from .fibers import ADDRESS_MASK, KEY_MASK, Blocks, Lanes, expand
from .lanes import lanes as compute_lanes
from .nest import Indices, Nest, Tokens, Words
from .steps import Steps, form_steps, places
from .watch import Watch

WIDE_BYTES = WIDE_BITS // 8


@dataclass
class Terms:
    """Wide values for the accumulator, in order; ``token`` is the leaf token of each."""

    token: Indices
    key: Words
    value: Wide


@dataclass
class LeafCounts:
    """Counts of the leaf.

    Attributes
    ----------
    multiplies : int
        Lanes of steps; each counts once, however many factors it has.
    lane_steps : int
        Steps with lanes.
    empty_steps : int
        Steps of leaf fibers without lanes.
    overflow : bool
        An int8 chip's arithmetic overflowed int32.
    """

    multiplies: int = 0
    lane_steps: int = 0
    empty_steps: int = 0
    overflow: bool = False


def leaf_terms(
    nest: Nest, tokens: Tokens, blocks: Blocks, image: Image, watch: Watch, counts: LeafCounts
) -> Terms:
    """Return the terms of the leaf tokens' joined blocks, and add to ``counts``."""
    row = nest.rows[-1]
    lanes = expand(row, tokens, blocks)
    steps = form_steps(blocks.token, blocks.lanes, nest.config.multipliers, nest.leaf_mode)
    counts.lane_steps += steps.total
    counts.empty_steps += len(tokens) - int(np.count_nonzero(np.diff(blocks.token, prepend=-1)))
    value = _values(nest, lanes, image, watch, counts)
    if nest.leaf_mode is LeafMode.DOT:
        return _dot(nest, tokens, blocks, lanes, value, steps, counts)
    step = np.uint32(row.result_step if row.result_mode is ResultMode.KEY else 0)
    key = tokens.key[lanes.token] + lanes.coordinate * step & KEY_MASK
    return Terms(lanes.token, key, value)


def _values(nest: Nest, lanes: Lanes, image: Image, watch: Watch, counts: LeafCounts) -> Wide:
    """Read the operands' values and compute each lane."""
    fmt = nest.config.dtype
    n = len(lanes.token)
    # without a third factor, op2 returns the second one
    factors = nest.operands if nest.operands[-1].used else nest.operands[:2]
    raw = np.zeros((n, 1, len(factors)), np.uint32)
    present = np.zeros((n, 1, len(factors)), np.bool_)
    for o, operand in enumerate(factors):
        if not operand.used:
            continue
        here = lanes.present[o]
        present[:, 0, o] = here
        size = WIDE_BYTES if operand.wide else fmt.narrow_bytes
        position = lanes.position[o][here].astype(np.int64)
        addresses = operand.values + position * size & ADDRESS_MASK
        watch.values(o, addresses, size)
        raw[here, 0, o] = image.gather(addresses, f"<u{size}")
    counts.multiplies += n
    value, overflow = compute_lanes(
        raw,
        present,
        np.ones((n, 1), np.bool_),
        op1=nest.op1,
        op2=nest.op2,
        wide=[operand.wide for operand in factors],
        negated=[operand.negate for operand in factors],
        fmt=fmt,
    )
    counts.overflow |= overflow
    return value[:, 0]


def _dot(
    nest: Nest,
    tokens: Tokens,
    blocks: Blocks,
    lanes: Lanes,
    value: Wide,
    steps: Steps,
    counts: LeafCounts,
) -> Terms:
    """Sum each leaf fiber; one without lanes gives no term."""
    m = nest.config.multipliers
    step, slot = places(steps, lanes.block, m)
    values = np.zeros((steps.total, m), wide_type(nest.config.dtype))
    valid = np.zeros((steps.total, m), np.bool_)
    values[step, slot], valid[step, slot] = value, True
    new = np.diff(blocks.token, prepend=-1) != 0
    token = blocks.token[new]
    fiber_of_block = np.cumsum(new) - 1
    fiber = np.repeat(fiber_of_block, steps.count)
    sums, _, overflow = dot_fibers(
        values, valid, fiber, len(token), nest.config.dtype, nest.reduction
    )
    counts.overflow |= overflow
    return Terms(token, tokens.key[token], sums)
