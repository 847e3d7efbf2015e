"""Virtual rows: what is far heavier than other rows of a matrix is divided.

Several PEs share out the rows of a matrix in their order, and the one that gets a heavy row near
the end works on it when the others have nothing left. So a heavy row's entries move to rows of
their own in front of all others, in parts of about equal weight. PEs get these first, or in turns
with the light rows (`kernel.share`). What is computed for the parts of a row is then added, in
their order. Parts are cut at block edges, so that no block word is divided. They are few: of parts
that are as small as the others' rows every PE would get some at once, and all would wait for the
memory at the same time.

How heavy rows are, and where parts end, follows from the matrix alone, never from the number of
PEs: every chip adds in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, PAIR_COORDINATES

from ..formats import panels
from ..formats.tensor import Tensor
from .operand import Operand
from .stored import Stored

QUANTA = 128
"""A row is heavy from this part of the matrix's weight on, an eighth of what each of 16 PEs gets:
it becomes as many virtual rows as its weight is quanta, rounded.
"""

MIN_WEIGHT = 1 << 15
"""Weight of a matrix from which it has heavy rows: about the cycles of one PE, of which a further
kernel's start should be a percent or two.
"""

Column = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VirtualRows:
    """An operand with virtual rows.

    Attributes
    ----------
    operand : Operand
        It has the entries of the original, and more rows.
    of : NDArray
        The row that each virtual row is a part of, ascending.
    first : int
        Where the rows begin, a multiple of `PAIR_COORDINATES`: behind the virtual rows and some
        empty ones. So rows that shared a block do so, and no line of the result has elements
        of both. Heavy rows are empty.
    """

    operand: Operand
    of: Column
    first: int


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
    if heaviest < _quantum(rows + entries // LANES):
        return None
    tensor = operand.pack(stored)
    by_mode, values = tensor.stored_entries()
    by_level = [by_mode[mode] for mode in stored.mode_order]
    virtual = _virtual(rows, by_level, by_blocks)
    if virtual is None:
        return None
    part, of = virtual
    first = -(-len(of) // PAIR_COORDINATES) * PAIR_COORDINATES
    if first + rows > panels.PANEL:
        return None
    by_mode[stored.mode_order[0]] = np.where(part < 0, first + by_level[0], part)
    shape = list(operand.shape)
    shape[stored.mode_order[0]] = first + rows
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
    made.zeros, made.fixed, made.virtual = operand.zeros, True, len(of)
    heavy = len(np.unique(of))
    rows_and_parts = f"{heavy} heavy row{'s' * (heavy > 1)} in {len(of)} part"
    note = f"{operand.name}: {rows_and_parts}{'s' * (len(of) > 1)}"
    made.notes = (*operand.notes, note)
    return VirtualRows(made, of, first)


def _quantum(weight: int) -> int:
    return -(-weight // QUANTA)


def _virtual(
    rows: int, by_level: Sequence[Column], by_blocks: bool
) -> tuple[Column, Column] | None:
    """Return the virtual row of each entry, -1 where it has none, and the row that each of these is
    a part of; None if no row is heavy. The entries are in the order of the levels.
    """
    row, block = by_level[0], by_level[1] // LANES
    begins = np.ones(len(row), np.bool_)  # a block of a row
    begins[1:] = (row[1:] != row[:-1]) | (block[1:] != block[:-1])
    (starts,) = np.nonzero(begins)
    of = row[starts]
    weight = np.ones_like(starts) if by_blocks else np.diff([*starts, len(row)])
    of_row = np.bincount(of, weight, minlength=rows).astype(np.int64)
    total = rows + int(of_row.sum())
    quantum = _quantum(total)
    parts = np.where(of_row < quantum, 0, (of_row + quantum // 2) // quantum)
    if total < MIN_WEIGHT or not parts.any():
        return None
    before = np.cumsum(weight) - weight - (np.cumsum(of_row) - of_row)[of]
    number = (np.cumsum(parts) - parts)[of] + before * parts[of] // np.maximum(1, of_row[of])
    # a block may reach over a whole part, which then has none
    taken, number = np.unique(np.where(parts[of] > 0, number, -1), return_inverse=True)
    light = int(taken[0] < 0)
    (virtual,) = np.nonzero(parts)
    own = np.repeat(virtual, parts[virtual])[taken[light:]]
    return (number - light)[np.cumsum(begins) - 1], own
