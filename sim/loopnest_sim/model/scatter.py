"""Golden function of the scatter leaf: splits blocks into single lanes."""

from collections.abc import Sequence

from .join import LANES


def scatter(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the lanes of an item's blocks in order: the block's number, and the lane's bit."""
    return [
        (n, 1 << lane)
        for n, lanes in enumerate(blocks)
        for lane in range(LANES)
        if lanes >> lane & 1
    ]
