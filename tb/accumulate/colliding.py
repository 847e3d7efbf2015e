"""Keys of the accumulator's hashed tables that share their sets."""

from functools import cache

import numpy as np

from loopnest_hw.accumulate.directory import GROUP_BITS
from loopnest_hw.accumulate.hashing import set_of
from loopnest_hw.accumulate.place import (
    BANK_BITS,
    BANKS,
    TABLES,
    WORD_BITS,
    context_bits,
    set_bits,
)
from loopnest_hw.accumulate.words import word_set_bits
from loopnest_hw.config import ChipConfig


def _colliding(keys: int, of: int, inputs: int, bits: int, sets: int) -> list[int]:
    """Return which of this many keys, each or-ed with ``of``, have set ``sets`` in both tables."""
    key = np.arange(keys)
    same = [set_of(key | of, inputs, bits, table) == sets for table in range(TABLES)]
    return [int(n) for n in np.flatnonzero(np.all(same, axis=0))]


@cache
def colliding_blocks(config: ChipConfig, context: int = 0, sets: int = 0) -> list[int]:
    """Return all blocks of the context whose sets have this number in both tables."""
    inputs = BANK_BITS + WORD_BITS + context_bits(config)
    of = context << BANK_BITS + WORD_BITS
    return _colliding(BANKS << WORD_BITS, of, inputs, set_bits(config), sets)


@cache
def colliding_words(config: ChipConfig, context: int = 0) -> list[int]:
    """Return all words of the context that are in half 0 and in set 0 of both tables."""
    inputs = WORD_BITS + context_bits(config)
    words = _colliding(1 << WORD_BITS, context << WORD_BITS, inputs, word_set_bits(config), 0)
    low = (1 << GROUP_BITS) - 1
    return [word for word in words if not (word & low).bit_count() & 1]
