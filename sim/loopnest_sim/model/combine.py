"""Golden function of the combiner: adds the copies of each key (hw result/combiner.py)."""

import numpy as np

from loopnest_hw.config import LANES, NumberFormat
from loopnest_hw.descriptor import Reduction

from .arith import reduce_pair, wide_type
from .blocks import Blocks


def combine(
    blocks: Blocks, copies: int, fmt: NumberFormat, reduction: Reduction = Reduction.SUM
) -> tuple[Blocks, bool]:
    """Return the blocks with each group of ``2**copies`` neighbours added, and whether a sum
    wrapped.

    Values are wide. A lane's values in the copies are added in order. A fiber's last item, if it
    has no lanes, is merged with the block before it unless that has its highest copy.
    """
    coordinate = blocks.coordinate >> copies
    highest = blocks.coordinate % (1 << copies) == (1 << copies) - 1
    groups: list[list[int]] = []
    for n in range(len(blocks)):
        opens = not groups or blocks.last[n - 1]
        if (
            not opens
            and not highest[n - 1]
            and (not blocks.mask[n] or coordinate[n] == coordinate[n - 1])
        ):
            groups[-1].append(n)
        else:
            groups.append([n])

    first = np.array([group[0] for group in groups], np.int64)
    end = np.array([group[-1] for group in groups], np.int64)
    mask = np.zeros(len(groups), np.int64)
    value = np.zeros((len(groups), LANES), wide_type(fmt))
    overflow = False
    for g, group in enumerate(groups):
        for n in group:
            has = blocks.mask[n] >> np.arange(LANES) & 1 == 1
            both = has & (mask[g] >> np.arange(LANES) & 1 == 1)
            new = blocks.value[n].view(wide_type(fmt))
            total, wrapped = reduce_pair(value[g], new, reduction, fmt)
            overflow |= bool((wrapped & both).any())
            value[g] = np.where(both, total, np.where(has, new, value[g]))
            mask[g] |= blocks.mask[n]
    combined = Blocks.of(
        np.where(mask != 0, coordinate[first], 0),
        mask,
        value.view(np.uint32),
        blocks.fiber[first],
        last=blocks.last[end],
        final=blocks.final[end],
    )
    return combined, overflow
