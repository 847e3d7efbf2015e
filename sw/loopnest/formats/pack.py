"""Converts coordinates to block words and position tables, and back, for whole arrays at a time.

A *position in front of level l* is ``node * span[l]``: the node's number among the level's nodes,
times the product of the sizes of the dense levels that start at l (`spans`). So a dense level
passes on ``position + coordinate * span[l + 1]``, a compressed one
``first child + rank * span[l + 1]``, and a position behind the last level is a value's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, POSITION_BITS
from loopnest_hw.format import BLOCK_MASK_BITS, ENTRY_WORDS, OPEN_STRIDE, PACKED_STRIDE

DENSE = "dense"
COMPRESSED = "compressed"

MASK = (1 << BLOCK_MASK_BITS) - 1


@dataclass(frozen=True, eq=False)
class CompressedLevel:
    """The arrays of a compressed level, in their memory layout.

    Parameters
    ----------
    table : NDArray[np.uint32]
        The position table.
    words : NDArray[np.uint32]
        The block words.
    stride : int
        Words between the table's entries, 2 (packed) or 4 (fibers anywhere).
    """

    table: NDArray[np.uint32]
    words: NDArray[np.uint32]
    stride: int = PACKED_STRIDE

    @property
    def fibers(self) -> int:
        """Entries of the position table."""
        if self.stride == PACKED_STRIDE:
            return (len(self.table) - 1) // PACKED_STRIDE
        return (len(self.table) + OPEN_STRIDE - ENTRY_WORDS) // OPEN_STRIDE

    def entries(self, position: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """Return first word, first child and end of the fibers at ``position``, as int64."""
        at = self.stride * position
        first, child, end = (self.table[at + i].astype(np.int64) for i in range(ENTRY_WORDS))
        return first, child, end


def spans(sizes: Sequence[int], levels: Sequence[str]) -> list[int]:
    """Return the number of positions of a node in front of each level, and after the last."""
    span = [1]
    for size, level in zip(reversed(sizes), reversed(levels), strict=True):
        span.insert(0, size * span[0] if level == DENSE else 1)
    return span


def encode(
    sizes: Sequence[int],
    levels: Sequence[str],
    coordinates: Sequence[NDArray[np.int64]],
    count: int,
) -> tuple[list[CompressedLevel | None], NDArray[np.int64], int]:
    """Pack ``count`` coordinates, sorted by the first level, then the second ..., without repeats.

    Returns
    -------
    arrays : list of CompressedLevel or None
        One for each level, None for a dense one.
    position : NDArray[np.int64]
        The position of each coordinate's value.
    values : int
        Number of values.

    Raises
    ------
    ValueError
        If there are more positions than 32 bits can number.
    """
    span = spans(sizes, levels)
    arrays: list[CompressedLevel | None] = []
    node = np.zeros(count, np.int64)
    nodes = 1
    for l, (size, level) in enumerate(zip(sizes, levels, strict=True)):
        if level == DENSE:
            node = node * size + coordinates[l]
            nodes *= size
            arrays.append(None)
        else:
            new = _changes(node, coordinates[l])
            fiber, coordinate = node[new], coordinates[l][new]
            arrays.append(_pack_level(fiber, coordinate, nodes, span[l + 1]))
            node = np.cumsum(new) - 1
            nodes = len(fiber)
        if nodes * span[l + 1] >= 1 << POSITION_BITS:
            raise ValueError(
                f"level {l} of sizes {tuple(sizes)} has {nodes * span[l + 1]} positions: "
                f"expected fewer than 2^{POSITION_BITS}; compress the levels above"
            )
    return arrays, node, nodes


def _changes(*keys: NDArray) -> NDArray[np.bool_]:
    """Return where any of the sorted keys differs from the entry before; True for the first
    entry.
    """
    new = np.zeros(len(keys[0]), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new


def _pack_level(
    fiber: NDArray[np.int64], coordinate: NDArray[np.int64], fibers: int, step: int
) -> CompressedLevel:
    block = coordinate // LANES
    starts = np.flatnonzero(_changes(fiber, block))
    words = np.zeros(0, np.uint32)
    if len(starts):
        masks = np.add.reduceat(1 << coordinate % LANES, starts)
        words = (block[starts] << BLOCK_MASK_BITS | masks).astype(np.uint32)
    table = np.zeros(PACKED_STRIDE * fibers + 1, np.uint32)
    table[2::2] = np.cumsum(np.bincount(fiber[starts], minlength=fibers))
    table[3::2] = step * np.cumsum(np.bincount(fiber, minlength=fibers))[:-1]
    return CompressedLevel(table, words)


def word_numbers(
    first: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the words of fibers ``[first, end)``, and each word's fiber."""
    count = end - first
    owner = np.repeat(np.arange(len(first)), count)
    before = np.cumsum(count) - count
    return np.arange(len(owner)) - before[owner] + first[owner], owner


def decode(
    sizes: Sequence[int], levels: Sequence[str], arrays: Sequence[CompressedLevel | None]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Return the stored coordinates, an array for each level, sorted, and the values' positions."""
    span = spans(sizes, levels)
    position = np.zeros(1, np.int64)
    found: list[NDArray[np.int64]] = []
    for l, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
        if array is None:
            owner = np.repeat(np.arange(len(position)), size)
            coordinate = np.tile(np.arange(size, dtype=np.int64), len(position))
            position = position[owner] + coordinate * span[l + 1]
        else:
            first, child, end = array.entries(position)
            number, fiber = word_numbers(first, end)
            word, lane = _lanes(array.words[number])
            owner = fiber[word]
            coordinate = (array.words[number].astype(np.int64) >> BLOCK_MASK_BITS)[word]
            coordinate = coordinate * LANES + lane
            counts = np.bincount(owner, minlength=len(position))
            before = np.cumsum(counts) - counts
            position = child[owner] + (np.arange(len(owner)) - before[owner]) * span[l + 1]
        found = [c[owner] for c in found] + [coordinate]
    return found, position


def _lanes(words: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return word number and lane of every set mask bit, ascending."""
    masks = np.ascontiguousarray(words & np.uint32(MASK)).astype("<u2").view(np.uint8)
    bit = np.flatnonzero(np.unpackbits(masks, bitorder="little"))
    return bit // LANES, bit % LANES
