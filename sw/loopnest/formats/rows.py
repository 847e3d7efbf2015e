"""Ranges of a tensor's outermost coordinates, of the same arrays: what lies below a range is one,
too, of block words and of values. Only position tables are copied, to begin at 0.
"""

import numpy as np

from loopnest_hw.format import PACKED_STRIDE

from .pack import DENSE, MASK, CompressedLevel
from .panels import wide_levels
from .tensor import Tensor


def take_rows(tensor: Tensor, start: int, stop: int) -> Tensor | None:
    """Return the coordinates from start to stop of the mode that the outermost level stores; None
    where that is compressed, or the arrays are not in the order in which tensors are packed.
    """
    if tensor.levels[:1] != (DENSE,) or wide_levels(tensor.sizes, tensor.levels):
        return None
    span = tensor.spans
    first, last = start * span[1], stop * span[1]
    arrays: list[CompressedLevel | None] = [None]
    for l, array in enumerate(tensor.arrays[1:], 1):
        if array is None:
            arrays.append(None)
            continue
        if array.stride != PACKED_STRIDE:
            return None
        table = array.table[PACKED_STRIDE * first : PACKED_STRIDE * last + 1].astype(np.int64)
        word, end = int(table[0]), int(table[-1])
        words = array.words[word:end]
        counts = np.bitwise_count(words & np.uint32(MASK)).astype(np.int64)
        before = span[l + 1] * np.concatenate([[0], np.cumsum(counts)])
        child = int(table[1]) if last > first else 0
        if (table[::2] < word).any() or (table[1::2] - child != before[table[:-1:2] - word]).any():
            return None
        table[::2] -= word
        table[1::2] -= child
        arrays.append(CompressedLevel(table.astype(np.uint32), words))
        first, last = child, child + int(before[-1])
    shape = list(tensor.shape)
    shape[tensor.mode_order[0]] = stop - start
    return Tensor(
        shape, tensor.levels, arrays, tensor.values[first:last],
        dtype=tensor.dtype, wide=tensor.wide, mode_order=tensor.mode_order,
    )  # fmt: skip
