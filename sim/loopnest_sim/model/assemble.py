"""Golden function of the assembler: groups ordered terms into blocks (hw result/assembler.py)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES

from .blocks import Blocks


def assemble(
    valid: NDArray[np.bool_],
    value: NDArray[Any],
    index: NDArray[Any],
    place: NDArray[Any],
    fiber: NDArray[Any],
    *,
    end: NDArray[np.bool_],
    final: NDArray[np.bool_],
) -> Blocks:
    """Return the result blocks of n items of M terms.

    Parameters
    ----------
    valid, value, index, place : NDArray
        Shape ``(n, M)``: terms, their values' bits, lanes and block coordinates, ascending in a
        fiber.
    fiber, end, final : NDArray
        Shape ``(n,)``. The last item ends a fiber.

    Returns
    -------
    Blocks
        A fiber without terms is one block with mask 0.
    """
    item, term = np.nonzero(valid)
    number: Any = np.cumsum(end) - end
    ends = np.flatnonzero(end)

    # A block begins where a term's fiber or block differs from the previous term's.
    where = np.stack([number[item], place[item, term].astype(np.int64)])
    begins = np.ones(len(item), np.bool_)
    begins[1:] = (where[:, 1:] != where[:, :-1]).any(axis=0)
    row = np.cumsum(begins) - 1
    lane = index[item, term].astype(np.int64)
    n = int(begins.sum())
    values = np.zeros((n, LANES), np.uint32)
    values[row, lane] = value[item, term].astype(np.uint32)
    mask = np.zeros(n, np.int64)
    np.bitwise_or.at(mask, row, 1 << lane)

    empty = np.setdiff1d(np.arange(len(ends)), where[0])
    numbers = np.concatenate([where[0, begins], empty])
    coordinate = np.concatenate([where[1, begins], np.zeros(len(empty), np.int64)])
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    last = np.ones(len(numbers), np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    pad = len(empty)
    return Blocks.of(
        coordinate[order],
        np.concatenate([mask, np.zeros(pad, np.int64)])[order],
        np.concatenate([values, np.zeros((pad, LANES), np.uint32)])[order],
        fiber[ends][numbers],
        last=last,
        final=last & final[ends][numbers],
    )
