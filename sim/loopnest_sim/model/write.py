"""Golden function of the writer: result blocks in memory (hw result/writer.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES, NumberFormat
from loopnest_hw.descriptor import Output
from loopnest_hw.format import CHUNK_LANES, ENTRY_BYTES, OPEN_STRIDE, WORD_BYTES

from ..image import Image
from .blocks import Blocks

Addresses = NDArray[np.int64]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    entries, blocks, values : NDArray[np.int64]
        Byte addresses of the fibers' entries, of the block words and of the values, each in order.
    blocks_full, values_full, table_full : bool
        The region was too small for some of them, which were not written.
    """

    entries: Addresses
    blocks: Addresses
    values: Addresses
    blocks_full: bool
    values_full: bool
    table_full: bool

    @property
    def lines(self) -> int:
        """Lines written: one more whenever an array's line changes."""
        return sum(_changes(a // LINE_BYTES) for a in (self.entries, self.blocks, self.values))


def _changes(lines: Addresses) -> int:
    return int((lines[1:] != lines[:-1]).sum()) + 1 if len(lines) else 0


def write(blocks: Blocks, kernel: Mapping[str, int], fmt: NumberFormat, image: Image) -> Written:
    """Write result blocks into ``image``, with a kernel descriptor's ``result`` settings.

    Dropped chunks do not stop the others: the chip writes all that fits, then reports the error.
    (It may pack two blocks into a chunk, and then drop other chunks than this function.)
    """
    narrow = kernel["result.output"] == Output.NARROW
    size = fmt.narrow_bytes if narrow else WORD_BYTES
    dtype: Any = {1: np.uint8, 2: np.uint16, 4: np.uint32}[size]
    compressed = bool(kernel["result.compressed"])

    row, lane = np.nonzero(blocks.lanes)
    if compressed:
        # A block's chunks are its lowest lanes and the others; they are packed.
        counts = blocks.lanes.sum(axis=1)
        before = np.cumsum(counts) - counts
        index = np.arange(len(row))
        chunk = 2 * row + ((index - before[row]) >= CHUNK_LANES)
    else:
        index = blocks.fiber[row] + LANES * blocks.coordinate[row] + lane
        chunk = 2 * row + (lane >= CHUNK_LANES)
    # A chunk ends where its last value does.
    ends_chunk = np.ones(len(chunk), np.bool_)
    ends_chunk[:-1] = chunk[1:] != chunk[:-1]
    chunk_end = index[ends_chunk][np.cumsum(ends_chunk) - ends_chunk] + 1
    capacity = kernel["result.values_end"] - kernel["result.values"]
    fits = chunk_end * size <= capacity
    values = kernel["result.values"] + index[fits] * size
    image.scatter(values, blocks.value[row[fits], lane[fits]].astype(dtype))

    nothing = np.zeros(0, np.int64)
    if not compressed:
        return Written(nothing, nothing, values, False, not fits.all(), False)

    has_word = blocks.mask != 0
    ends = np.cumsum(has_word)
    capacity = kernel["result.blocks_end"] - kernel["result.blocks"]
    word_fits = ends[has_word] * WORD_BYTES <= capacity
    words = kernel["result.blocks"] + (ends[has_word][word_fits] - 1) * WORD_BYTES
    content = blocks.coordinate << LANES | blocks.mask
    image.scatter(words, content[has_word][word_fits].astype(np.uint32))

    last = np.flatnonzero(blocks.last)
    end_block, end_child = ends[last], np.cumsum(counts)[last]
    entry = np.zeros((len(last), OPEN_STRIDE), np.uint32)
    entry[1:, 0] = end_block[:-1]
    entry[1:, 1] = end_child[:-1]
    entry[:, 2] = end_block
    offset = blocks.fiber[last].astype(np.int64) * ENTRY_BYTES
    entry_fits = offset + ENTRY_BYTES <= kernel["result.table_end"] - kernel["result.table"]
    entries = kernel["result.table"] + offset[entry_fits]
    for k in range(OPEN_STRIDE):
        image.scatter(entries + k * WORD_BYTES, entry[entry_fits, k])
    return Written(
        entries, words, values, not word_fits.all(), not fits.all(), not entry_fits.all()
    )
