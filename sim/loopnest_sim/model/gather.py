"""Golden function of the gather: items by address, and the number of lines read."""

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.format import WORD_BYTES


def gather(
    memory: NDArray[np.uint8], valid: NDArray[np.bool_], address: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], int]:
    """Return the items that n steps of a stream read, and the number of lines read for them.

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
    return items, len(lines_read(read))


def lines_read(read: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the numbers of the lines that are read for items at these byte addresses, in order."""
    line = read // LINE_BYTES
    return line[np.flatnonzero(np.diff(line.astype(np.int64), prepend=-1))]
