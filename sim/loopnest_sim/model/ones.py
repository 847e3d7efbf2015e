"""Golden function of the all-ones fiber."""

from collections.abc import Iterator

from loopnest_hw.config import LANES, PAIR
from loopnest_hw.format import BLOCK_MASK_BITS


def ones(size: int, head: int = 0, between: int = 0) -> Iterator[list[int]]:
    """Yield the block words of each item of a fiber of the coordinates 0 to ``size - 1``, in order;
    nothing if it is empty.

    Parameters
    ----------
    size : int
    head, between : int
        As in `row.ones.TURNS`; the head does not have all pairs of blocks.
    """
    masks = [(1 << min(LANES, size - first)) - 1 for first in range(0, size, LANES)]
    words = [block << BLOCK_MASK_BITS | mask for block, mask in enumerate(masks)]
    pairs = [words[n : n + PAIR] for n in range(PAIR * head, len(words), PAIR)]
    alone = [
        [block << BLOCK_MASK_BITS | 1 << lane]
        for block in range(PAIR * head)
        for lane in range(LANES)
    ]
    for n, pair in enumerate(pairs):
        if n == len(pairs) - 1 or between == 0:
            turn, alone = alone, []
        else:
            turn, alone = ([], alone) if n % between else (alone[:1], alone[1:])
        yield from turn
        yield pair
