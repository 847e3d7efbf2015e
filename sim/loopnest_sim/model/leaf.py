"""The leaf, for many tokens at once: computes their lanes' values, and sums them by fiber for
DOT.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, WIDE_BITS, NumberFormat
from loopnest_hw.descriptor import CellMode, LeafMode, ResultMode
from loopnest_hw.format import BLOCK_COORDINATE_BITS

from ..image import Image
from .arith import Flags, Wide, wide_type
from .dot import dot_fibers
from .fibers import KEY_MASK, Blocks, Lanes, expand
from .lanes import Factor, combine, factor
from .nest import Indices, Nest, Operand, Tokens, Words
from .skew import is_skewed
from .steps import Steps, form_steps, places
from .watch import Watch

WIDE_BYTES = WIDE_BITS // 8


@dataclass
class Terms:
    """Wide values for the accumulator, in order; the first ``count[0]`` are of leaf token
    ``token[0]``, and so on.
    """

    token: Indices
    count: NDArray[np.uint8]
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
    steps = leaf_steps(nest, tokens, blocks)
    counts.lane_steps += steps.total
    counts.empty_steps += len(tokens) - int(np.count_nonzero(np.diff(blocks.token, prepend=-1)))
    value = _values(nest, tokens, blocks, lanes, image, watch, counts)
    if nest.leaf_mode is LeafMode.DOT:
        return _dot(nest, tokens, blocks, lanes, value, steps, counts)
    step = np.uint32(row.result_step if row.result_mode is ResultMode.KEY else 0)
    key = np.repeat(tokens.key[blocks.token], lanes.count) + lanes.coordinate * step & KEY_MASK
    return Terms(blocks.token, lanes.count, key, value)


def leaf_steps(nest: Nest, tokens: Tokens, blocks: Blocks) -> Steps:
    """Form the steps of the leaf tokens' joined blocks."""
    skewed = np.zeros(len(blocks.lanes), np.bool_)
    if nest.accumulate and nest.leaf_mode is LeafMode.AXPY:
        # all blocks of a fiber are in the same copy, so that they differ as without it
        number = (tokens.key[blocks.token] // LANES + blocks.coordinate) << nest.copies
        skewed = is_skewed(number % (1 << BLOCK_COORDINATE_BITS))
    return form_steps(blocks.token, blocks.lanes, nest.config.multipliers, nest.leaf_mode, skewed)


def _values(
    nest: Nest,
    tokens: Tokens,
    blocks: Blocks,
    lanes: Lanes,
    image: Image,
    watch: Watch,
    counts: LeafCounts,
) -> Wide:
    """Read the operands' values and compute each lane."""
    fmt = nest.config.dtype
    # without a third factor, op2 returns the second one
    used = nest.operands if nest.operands[-1].used else nest.operands[:2]
    factors: list[Factor] = []
    for o, operand in enumerate(used):
        has = lanes.present[o]
        # an operand that is held has one value for the lanes of a block
        held = nest.rows[-1].cells[o].mode is CellMode.HOLD
        here = blocks.lanes & blocks.mask[o] != 0 if held else has
        position = tokens.position[o][blocks.token] if held else lanes.position[o]
        raw = _read(operand, o, position, here, fmt, image, watch)
        value, flags = factor(raw, wide=operand.wide, negated=operand.negate, fmt=fmt)
        counts.overflow |= bool((flags & here).any())
        factors.append((np.repeat(value, lanes.count) if held else value, has))
    counts.multiplies += len(lanes.coordinate)
    wide = [operand.wide for operand in used]
    value, overflow = combine(factors, op1=nest.op1, op2=nest.op2, wide=wide, fmt=fmt)
    counts.overflow |= overflow
    return value


def _read(
    operand: Operand,
    number: int,
    position: Words,
    here: Flags,
    fmt: NumberFormat,
    image: Image,
    watch: Watch,
) -> NDArray[Any]:
    """Return an operand's raw values at these positions, 0 where it is not ``here``."""
    size = WIDE_BYTES if operand.wide else fmt.narrow_bytes
    if not operand.used:
        return np.zeros(len(here), f"<u{size}")
    everywhere = bool(here.all())
    # modulo the address space
    offset = (position if everywhere else position[here]) * np.uint32(size)
    addresses = np.uint32(operand.values) + offset
    watch.values(number, addresses, size)
    found = image.gather(addresses, f"<u{size}")
    if everywhere:
        return found
    raw = np.zeros(len(here), found.dtype)
    raw[here] = found
    return raw


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
    return Terms(token, np.ones(len(token), np.uint8), tokens.key[token], sums)
