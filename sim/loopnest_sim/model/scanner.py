"""Golden function of the scanner: the block words of compressed fibers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import ADDRESS_BITS, COORDINATE_BITS, LINE_BYTES, PAIR
from loopnest_hw.format import BLOCK_MASK_BITS, ENTRY_WORDS, WORD_BYTES


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
        None is an empty request.
    table, blocks : int
        Byte addresses of the position table and the block words; the bits within a line are
        ignored.
    stride : int
        Words from one position entry to the next.

    Returns
    -------
    items : list of dict
        Constants of the layout. Words past the fiber's end are 0; their ranks continue.
    fault : dict of int
        `tokens.LEVEL_FAULT`: ``tensor`` if a fiber ended before its first word (it counts as
        empty), a mask was empty, or blocks did not ascend; ``coordinate`` if a coordinate was at or
        above ``size``.
    """
    words = memory.view("<u4")

    def word(array: int, index: int) -> int:
        address = (array - array % LINE_BYTES + WORD_BYTES * index) % (1 << ADDRESS_BITS)
        return int(words[address // WORD_BYTES])

    items: list[dict[str, Any]] = []
    tensor = coordinate = 0
    for position in positions:
        first = child = end = 0
        if position is not None:
            first, child, end = (word(table, stride * position + n) for n in range(ENTRY_WORDS))
        fiber, fault = fiber_items([word(blocks, at) for at in range(first, end)], child, size)
        items += fiber
        tensor |= fault["tensor"] | int(end < first)
        coordinate |= fault["coordinate"]
    return items, {"tensor": tensor, "coordinate": coordinate}


def fiber_items(
    words: Sequence[int], child: int, size: int = 1 << COORDINATE_BITS
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the items and the fault of a fiber of these block words, as `scan` does."""
    items: list[dict[str, Any]] = []
    tensor = coordinate = False
    rank = 0
    before = -1
    # An empty fiber has one item, too.
    for at in range(0, max(len(words), 1), PAIR):
        pair = words[at : at + PAIR]
        both = [*pair, *[0] * (PAIR - len(pair))]
        masks = [w & ((1 << BLOCK_MASK_BITS) - 1) for w in both]
        for w, mask in zip(pair, masks, strict=False):
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
                    for m, w in zip(masks, both, strict=True)
                ],
                "rank": ranks,
                "count": len(pair),
                "child": child,
                "last": int(at + PAIR >= len(words)),
            }
        )
    return items, {"tensor": int(tensor), "coordinate": int(coordinate)}
