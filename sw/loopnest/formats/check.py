"""Refuses inconsistent level arrays, with a message that says where they are wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, POSITION_BITS
from loopnest_hw.format import BLOCK_MASK_BITS, ENTRY_WORDS, OPEN_STRIDE, PACKED_STRIDE

from ..arguments import integer
from .pack import MASK, CompressedLevel, spans, word_numbers


def check_levels(
    sizes: Sequence[int],
    levels: Sequence[str],
    arrays: Sequence[CompressedLevel | None],
    values: int,
) -> None:
    """Check every fiber that can be reached from the root.

    Raises
    ------
    ValueError
        Naming the level and the fiber or block word: for a table of a wrong length, one that
        runs backwards, a position past the end of the words, tables or values, an empty mask,
        unsorted or repeated blocks, or a coordinate at or above the level's size.
    TypeError
        For a table or block words that are not a 1-D array of uint32.
    """
    for l, array in enumerate(arrays):
        if array is not None:
            _check_types(array, f"level {l}")
            _check_table(array, f"level {l}")
    # clamped to a number past any end, so that products stay within 64 bits
    span = [min(n, 1 << POSITION_BITS) for n in spans(sizes, levels)]
    # The dense levels below use `span` neighbours from each position.
    reached = np.zeros(1, np.int64)
    neighbours = span[0]
    for l, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
        if array is None:
            continue
        where = f"level {l}"
        _check_reached(reached, neighbours, array.fibers, f"{where}: position table")
        reached = (reached[:, None] + np.arange(neighbours)).reshape(-1)
        first, child, end = array.entries(reached)
        _check_fibers(array, reached, first, end, where)
        counts = _check_words(array, reached, first, end, size, where)
        owner = np.repeat(np.arange(len(reached)), counts)
        rank = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
        neighbours = span[l + 1]
        reached = child[owner] + rank * neighbours
    _check_reached(reached, neighbours, values, "values")


def _check_types(array: CompressedLevel, where: str) -> None:
    for name in ("table", "words"):
        found = getattr(array, name)
        if not isinstance(found, np.ndarray):
            raise TypeError(f"{where}: {name} is {type(found).__name__}: expected an ndarray")
        if found.dtype != np.uint32 or found.ndim != 1:
            raise TypeError(
                f"{where}: {name} of type {found.dtype} and {found.ndim} dimensions: "
                f"expected one dimension of uint32"
            )
    integer(f"{where}: stride", array.stride)


def _check_table(array: CompressedLevel, where: str) -> None:
    length = len(array.table)
    if array.stride == PACKED_STRIDE:
        if length % PACKED_STRIDE != 1:
            raise ValueError(f"{where}: packed position table of {length} words: expected 2n + 1")
        backwards = array.table[2::2] < array.table[:-1:2]
        if backwards.any():
            p = int(np.argmax(backwards))
            raise ValueError(
                f"{where}: position table runs backwards at fiber {p}: its block words are "
                f"{array.table[2 * p]} to {array.table[2 * p + 2]}"
            )
    elif array.stride == OPEN_STRIDE:
        if length and length % OPEN_STRIDE not in (0, ENTRY_WORDS):
            raise ValueError(f"{where}: position table of {length} words: expected 4n")
    else:
        raise ValueError(f"{where}: position table of stride {array.stride}: expected 2 or 4")


def _check_reached(position: NDArray[np.int64], neighbours: int, count: int, where: str) -> None:
    """Check that ``neighbours`` positions from each one on exist."""
    if not neighbours:
        return
    past = position > max(count - neighbours, -1)
    if past.any():
        first = max(count, int(position[np.argmax(past)]))
        raise ValueError(f"{where}: position {first} is past the end: there are {count}")


def _check_fibers(
    array: CompressedLevel,
    position: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    where: str,
) -> None:
    backwards = end < first
    if backwards.any():
        k = int(np.argmax(backwards))
        raise ValueError(
            f"{where}: position table runs backwards at fiber {position[k]}: its block words are "
            f"{first[k]} to {end[k]}"
        )
    past = end > len(array.words)
    if past.any():
        k = int(np.argmax(past))
        raise ValueError(
            f"{where}: fiber {position[k]} ends at block word {end[k]}, past the end: "
            f"there are {len(array.words)}"
        )


def _check_words(
    array: CompressedLevel,
    position: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    size: int,
    where: str,
) -> NDArray[np.int64]:
    """Check the fibers' block words; return each fiber's number of coordinates."""
    number, owner = word_numbers(first, end)
    word = array.words[number].astype(np.int64)
    mask, block = word & MASK, word >> BLOCK_MASK_BITS

    def refuse(bad: NDArray[np.bool_], what: str) -> None:
        if bad.any():
            k = int(np.argmax(bad))
            raise ValueError(
                f"{where}, fiber {position[owner[k]]}, block word {number[k]} "
                f"({word[k]:#010x}): {what}"
            )

    refuse(mask == 0, "empty mask")
    same = np.zeros(len(word), bool)
    same[1:] = owner[1:] == owner[:-1]
    repeated, unsorted = same.copy(), same.copy()
    repeated[1:] &= block[1:] == block[:-1]
    unsorted[1:] &= block[1:] < block[:-1]
    refuse(repeated, "repeated block")
    refuse(unsorted, "unsorted block")
    highest = block * LANES + np.floor(np.log2(np.maximum(mask, 1))).astype(np.int64)
    refuse(highest >= size, f"coordinate at or above the size {size}")
    counts = np.bincount(owner, weights=np.bitwise_count(mask), minlength=len(first))
    return counts.astype(np.int64)
