"""Compressed levels in a memory image, for the benches."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.format import LINE_WORDS, OPEN_STRIDE, PACKED_STRIDE


@dataclass(frozen=True)
class Level:
    """A level in memory: byte addresses of its arrays, stride of its table, number of fibers."""

    table: int
    blocks: int
    stride: int
    fibers: int


def place_level(
    image: NDArray[np.uint8],
    at: int,
    lengths: list[int],
    stride: int,
    rng: random.Random,
    *,
    sound: bool = False,
) -> tuple[Level, int]:
    """Write a level of fibers of these lengths in blocks, of random words, from line `at` on.

    ``sound``: the blocks ascend, and no mask is empty. A negative length makes a table that runs
    backwards. Returns the level and the next free line.
    """
    words = image.view("<u4")
    blocks = rng.sample(range(len(lengths)), len(lengths)) if stride == OPEN_STRIDE else None
    firsts = [0] * (len(lengths) + 1)
    place = rng.randrange(20)
    for fiber in blocks or range(len(lengths)):
        firsts[fiber] = place
        place += abs(lengths[fiber]) + (rng.randrange(3) if blocks else 0)
    firsts[-1] = place
    table = at
    for fiber, first in enumerate(firsts):
        entry = table * LINE_WORDS + stride * fiber
        words[entry] = first
        words[entry + 1] = rng.getrandbits(32)
        if stride == OPEN_STRIDE and fiber < len(lengths):
            words[entry + 2] = max(0, first + lengths[fiber])
        elif stride == PACKED_STRIDE and fiber < len(lengths) and lengths[fiber] < 0:
            raise ValueError(f"length {lengths[fiber]}: expected an open table")
    at = table + (stride * len(firsts)) // LINE_WORDS + 1
    level = Level(table * LINE_BYTES, at * LINE_BYTES, stride, len(lengths))
    start = at * LINE_WORDS
    for n in range(place):
        words[start + n] = rng.getrandbits(32)
        if sound:
            words[start + n] = 5 * n << 16 | rng.randrange(1, 1 << 16)
    return level, at + place // LINE_WORDS + 1
