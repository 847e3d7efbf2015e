"""The skew of the accumulator's lane banks (hw accumulate/skew.py)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import BANK_SKEW, LANES


def skew(block: int) -> int:
    """Return the skew of a block of the accumulator: its lane l is in bank ``l ^ skew``."""
    return BANK_SKEW if block.bit_count() % 2 else 0


def banks(lanes: int, block: int) -> int:
    """Return the banks of a block's lanes."""
    return sum(1 << (lane ^ skew(block)) for lane in range(LANES) if lanes >> lane & 1)


def is_skewed(block: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which blocks' skew is not 0."""
    return (np.bitwise_count(block) & 1).astype(np.bool_)
