"""A scanner: the block words of compressed fibers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, COORDINATE_BITS, LINE_BYTES
from loopnest_hw.format import BLOCK_MASK_BITS, ENTRY_WORDS, WORD_BYTES
from loopnest_hw.tokens import PAIR


def scan(
    memory: NDArray[np.uint8],
    positions: Iterable[int | None],
    *,
    table: int,
    stride: int,
    blocks: int,
    size: int = 1 << COORDINATE_BITS,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the `tokens.FIBER_BLOCKS` of the fibers at these positions.

    Parameters
    ----------
    memory : NDArray[np.uint8]
        The whole memory from byte address 0 on, a multiple of 4 bytes.
    positions : iterable of int or None
        None stands for an empty request.
    table, blocks : int
        Byte addresses of the position table and the block words; the bits within a line are
        ignored.
    stride : int
        Words from one position entry to the next.

    Returns
    -------
    items : list of dict
        As the layout's constants are written. Words past the fiber's end are 0; ranks go on.
    fault : dict of int
        `tokens.LEVEL_FAULT`: ``tensor`` where a fiber ended before its first word (it counts as
        empty), a mask was empty, or blocks did not ascend; ``coordinate`` where one was at or above
        ``size``.
    """
    words = memory.view("<u4")

    def word(array: int, index: int) -> int:
        address = (array - array % LINE_BYTES + WORD_BYTES * index) % (1 << ADDRESS_BITS)
        return int(words[address // WORD_BYTES])

    items: list[dict[str, Any]] = []
    tensor = coordinate = False
    for position in positions:
        first = child = end = 0
        if position is not None:
            first, child, end = (word(table, stride * position + n) for n in range(ENTRY_WORDS))
        tensor |= end < first
        rank = 0
        before = -1
        # An empty fiber has one item all the same.
        for at in range(first, max(end, first + 1), PAIR):
            count = max(0, min(PAIR, end - at))
            pair = [word(blocks, at + n) if n < count else 0 for n in range(PAIR)]
            masks = [w & ((1 << BLOCK_MASK_BITS) - 1) for w in pair]
            for w, mask in zip(pair[:count], masks[:count], strict=True):
                block = w >> BLOCK_MASK_BITS
                tensor |= mask == 0 or block <= before
                coordinate |= (block << 4) + max(0, mask.bit_length() - 1) >= size
                before = block
            ranks = []
            for mask in masks:
                ranks.append(rank % (1 << COORDINATE_BITS))
                rank += mask.bit_count()
            items.append(
                {
                    "word": [
                        {"mask": m, "coordinate": w >> BLOCK_MASK_BITS}
                        for m, w in zip(masks, pair, strict=True)
                    ],
                    "rank": ranks,
                    "count": count,
                    "child": child,
                    "last": int(at + PAIR >= end),
                }
            )
    return items, {"tensor": int(tensor), "coordinate": int(coordinate)}
