"""Golden functions of the gather and its line store: items by address, and the lines read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.format import WORD_BYTES


def gather(
    memory: NDArray[np.uint8], valid: NDArray[np.bool_], address: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], int]:
    """Return the items that n steps of a stream read, and the number of lines taken for them.

    Parameters
    ----------
    memory : NDArray[np.uint8]
        The whole memory from byte address 0 on, a multiple of 4 bytes.
    valid : NDArray[np.bool_]
        Shape ``(n, lanes)``: the lane reads an item.
    address : NDArray[np.uint32]
        Shape ``(n, lanes)``: its byte address.

    Returns
    -------
    items : NDArray[np.uint32]
        Shape ``(n, lanes)``: the aligned 32-bit word that holds the address, shifted down so that
        the item begins at bit 0. A lane that is not valid is 0.
    lines : int
        How often an item's line differs from that of the item before, plus the first line.
    """
    words = memory.view("<u4")
    read = address[valid]
    items = np.zeros(address.shape, np.uint32)
    items[valid] = words[read // WORD_BYTES] >> (8 * (read % WORD_BYTES)).astype(np.uint32)
    return items, len(lines_taken(read))


def lines_taken(read: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the numbers of the lines that are taken for items at these byte addresses."""
    line = read // LINE_BYTES
    return line[np.flatnonzero(np.diff(line.astype(np.int64), prepend=-1))]


class LineStore:
    """The lines that a stream keeps, by the low bits of their numbers; none if ``kept`` is 0."""

    def __init__(self, kept: int) -> None:
        self._lines = np.full(max(1, kept), -1, np.int64)
        self._kept = kept

    def not_kept(self, lines: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of the lines that are taken next, in order, are read for it."""
        if not self._kept:
            return np.ones(len(lines), np.bool_)
        place = lines % self._kept
        order = np.argsort(place, kind="stable")
        line, at = lines[order].astype(np.int64), place[order]
        first = np.diff(at, prepend=-1) != 0
        before = np.where(first, self._lines[at], np.roll(line, 1))
        read = np.empty(len(lines), np.bool_)
        read[order] = line != before
        self._lines[at] = line  # of several at one place, the last one stays
        return read
