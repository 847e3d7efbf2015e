"""The loop nest: indices on rows, a cell for each operand.

The first loop is row 0, the last one the leaf row, and those between follow row 0; unused rows are
bypassed. A nest with fewer than two loops is extended by all-ones fibers of size 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loopnest_hw.descriptor import CellMode

from ..expression.split import OneKernelError
from ..expression.stored import Stored
from ..formats.pack import COMPRESSED
from .lane import Lane
from .tables import JoinRow, place_ones


@dataclass(frozen=True)
class Cell:
    """An operand's cell; ``level`` is the operand's level that it walks, None if it holds. A mask's
    last step is 0, since it has one value.
    """

    mode: CellMode
    ones: bool
    level: int | None
    step: int


@dataclass(frozen=True)
class Row:
    """A loop and its row; ``index`` is None for an added loop of size 1."""

    number: int
    index: str | None
    size: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Nest:
    """Rows from the first loop to the leaf, and the operands' levels by column."""

    rows: tuple[Row, ...]
    columns: tuple[Stored, ...]
    lane: Lane


def build_nest(
    lane: Lane,
    columns: Sequence[Stored],
    loops: Sequence[str],
    sizes: Mapping[str, int],
    rows: int,
) -> Nest:
    """Place loops and operands on a chip with ``rows`` rows.

    Raises
    ------
    OneKernelError
        If there are more loops than rows, or a single kernel can't join them (`place_ones`).
    """
    if len(loops) > rows:
        raise OneKernelError(
            f"{len(loops)} loops ({''.join(loops)}): a single kernel of this chip has {rows} rows"
        )
    indices: list[str | None] = [None] * (2 - len(loops)) + list(loops)
    joins = [_join(index, columns) for index in indices]
    ones = place_ones(lane, joins)
    numbers = [*range(len(indices) - 1), rows - 1]
    placed = tuple(
        Row(
            number,
            index,
            1 if index is None else sizes[index],
            tuple(
                _cell(stored, index, c == ones_column, c == lane.mask)
                for c, stored in enumerate(columns)
            ),
        )
        for number, index, ones_column in zip(numbers, indices, ones, strict=True)
    )
    return Nest(placed, tuple(columns), lane)


def _join(index: str | None, columns: Sequence[Stored]) -> JoinRow:
    scans, follow, hold = 0, [], []
    for c, stored in enumerate(columns):
        level = stored.level(index)
        if level is None:
            hold.append(c)
        elif stored.levels[level] == COMPRESSED:
            scans |= 1 << c
        else:
            follow.append(c)
    return JoinRow(index, scans, (*follow, *hold))


def _cell(stored: Stored, index: str | None, ones: bool, mask: bool) -> Cell:
    level = stored.level(index)
    if level is None:
        return Cell(CellMode.HOLD, ones, None, 0)
    scans = stored.levels[level] == COMPRESSED
    step = 0 if mask and level == len(stored.levels) - 1 else stored.step(level)
    return Cell(CellMode.SCAN if scans else CellMode.FOLLOW, ones, level, step)
