"""Virtual rows: a row far heavier than the others is divided among several rows of its own.

Several PEs share out the rows of a matrix, and the one that gets the heaviest row may end long
after the others. A heavy row's entries move to new rows behind all others, in parts of about equal
weight, cut at block edges, so that a block word is not divided. What is computed for these virtual
rows is then added, in their order.

A row is heavy, and a part ends, by a quantum that follows from the matrix alone, never from the
number of PEs: every chip adds in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES
from loopnest_hw.format import WORD_BYTES

from ..formats import panels
from ..formats.tensor import Tensor
from .operand import Operand
from .stored import Stored

QUANTA = 256
"""Parts into which all of a matrix would be divided: a part is a small share of a PE's, up to 32
PEs, and few enough that adding them costs little.
"""

HEAVY = 2
"""Quanta from which a row is heavy."""

MIN_WEIGHT = 1 << 15
"""Weight of a matrix from which it has heavy rows: about the cycles of one PE, of which a further
kernel's start should be a percent or two.
"""

ROUND = LINE_BYTES // WORD_BYTES
"""Virtual rows begin at a multiple of this, so in a line of the result that no other row has."""

Column = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VirtualRows:
    """An operand whose heavy rows are empty, with virtual rows for them behind all others.

    Attributes
    ----------
    operand : Operand
        It has the entries of the original, and more rows.
    first : int
        The first virtual row; between the last row and this one are up to 7 empty ones.
    of : NDArray
        The row that each virtual row is a part of, ascending.
    """

    operand: Operand
    first: int
    of: Column


def divide_rows(operand: Operand, stored: Stored, *, by_blocks: bool) -> VirtualRows | None:
    """Return an operand with its heavy rows divided; None if it has none.

    The rows are the coordinates of the outermost of its levels, and the next level is compressed.

    Parameters
    ----------
    by_blocks : bool
        A row weighs as much as it has block words, not as it has entries. Each row that may have
        entries weighs one more.
    """
    rows, entries = stored.sizes[0], operand.nnz
    known = operand.coordinates()
    if known is None or rows + entries < MIN_WEIGHT:
        return None
    heaviest = int(np.bincount(known[stored.mode_order[0]], minlength=1).max())
    if heaviest < HEAVY * _quantum(rows + entries // LANES):
        return None
    tensor = operand.pack(stored)
    by_mode, values = tensor.stored_entries()
    by_level = [by_mode[mode] for mode in stored.mode_order]
    virtual = _divided(rows, by_level, by_blocks)
    if virtual is None:
        return None
    row, of = virtual
    first = -(-rows // ROUND) * ROUND
    if first + len(of) > panels.PANEL:
        return None
    by_mode[stored.mode_order[0]] = np.where(row < rows, row, row - rows + first)
    shape = list(operand.shape)
    shape[stored.mode_order[0]] = first + len(of)
    made = operand.with_source(
        Tensor.from_stored(
            shape,
            stored.levels,
            by_mode,
            values,
            dtype=tensor.dtype,
            wide=tensor.wide,
            mode_order=stored.mode_order,
        )
    )
    made.zeros = operand.zeros
    heavy = len(np.unique(of))
    note = f"{operand.name}: {heavy} heavy row{'s' * (heavy > 1)} in {len(of)} parts"
    made.left_out = (*operand.left_out, note)
    return VirtualRows(made, first, of)


def _quantum(weight: int) -> int:
    return -(-weight // QUANTA)


def _divided(
    rows: int, by_level: Sequence[Column], by_blocks: bool
) -> tuple[Column, Column] | None:
    """Return the row of each entry, virtual ones numbered from ``rows`` on, and the row that each
    virtual row is a part of; None if no row is heavy. The entries are in the order of the levels.
    """
    row, block = by_level[0], by_level[1] // LANES
    begins = np.ones(len(row), np.bool_)  # a block of a row
    begins[1:] = (row[1:] != row[:-1]) | (block[1:] != block[:-1])
    (starts,) = np.nonzero(begins)
    weight = np.ones_like(starts) if by_blocks else np.diff([*starts, len(row)])
    total = rows + int(weight.sum())
    quantum = _quantum(total)
    of_row = np.bincount(row[starts], weight, minlength=rows).astype(np.int64)
    heavy = of_row >= HEAVY * quantum
    if total < MIN_WEIGHT or not heavy.any():
        return None
    before = np.cumsum(weight) - weight - (np.cumsum(of_row) - of_row)[row[starts]]
    part = before // quantum
    parts = np.where(heavy, -(-of_row // quantum), 0)
    # a block may reach over several edges, so some numbers are not taken
    found = np.where(heavy[row[starts]], (np.cumsum(parts) - parts)[row[starts]] + part, -1)
    taken, number = np.unique(found, return_inverse=True)
    light = int(taken[0] < 0)
    numbered = np.where(found < 0, row[starts], rows + number - light)
    of = np.searchsorted(np.cumsum(parts), taken[light:], side="right")
    return numbered[np.cumsum(begins) - 1], of
