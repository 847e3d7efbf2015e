"""Estimates the lines that a nest's streams read: one for each item whose line differs from the
previous item's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES
from loopnest_hw.descriptor import CellMode

from ..loops.nest import Cell, Row
from ..named import named
from .profile import Profile


@named
@dataclass(frozen=True)
class Burst:
    """The distribution of a stream's lines over time: a share of its fibers crosses a line
    boundary, and reads both lines repeatedly for ``steps`` steps; the others read none.
    """

    share: float
    steps: float


@dataclass(frozen=True)
class Fibers:
    """The sequence of a column's fibers that a row visits: how often the fiber changes, and a
    sample of the distances in positions between successive ones.
    """

    number: float
    distance: NDArray[np.float64]

    def lines(self, visits: float, span: float, stride: float, line: float) -> float:
        """Return the lines of ``visits`` fibers, with ``line`` items per line: a fiber's items lie
        within ``span`` items, and neighbouring positions are ``stride`` items apart.
        """
        alone = self.alone(span, line)
        distance = self.distance * stride
        # one that begins a line or more before the end of the previous one shares no line with it
        apart = span - distance >= line
        new = self.number * float(np.where(apart, alone, np.minimum(alone, distance / line)).mean())
        # a fiber within one line is not read again
        again = min(alone, 2 * (alone - 1))
        return new + max(0.0, visits - self.number) * again

    @staticmethod
    def alone(span: float, line: float) -> float:
        """Return the lines of a fiber none of whose lines was read just before."""
        return 1 + max(0.0, span - 1) / line

    def bursts(self, span: float, line: float, visits: float, steps: float) -> Burst:
        """Return the burst of the lines of fibers that lie within ``span``, in ``steps`` steps."""
        across = self.alone(span, line) - 1
        if visits < 1.5 * self.number or across >= 1 or not self.number:
            return Burst(1.0, 0.0)
        return Burst(across, steps / self.number)


def child_gaps(
    row: Row, profiles: Sequence[Profile], column: int, fibers: float
) -> NDArray[np.float64]:
    """Return the distances, in children of a column, from one that a row visits to the next, if it
    visits ``fibers`` fibers for each.
    """
    cell = row.cells[column]
    assert cell.level is not None
    others = [
        (c, x.level) for c, x in enumerate(row.cells) if x.mode is CellMode.SCAN and c != column
    ]
    if cell.mode is CellMode.FOLLOW and len(others) == 1:
        ((c, level),) = others
        assert level is not None
        found = profiles[c].gaps(level)
        if len(found):
            return found.astype(np.float64)
    return np.array([max(1.0, fibers * profiles[column].fill(cell.level))])


def value_lines(
    cell: Cell,
    profile: Profile,
    fibers: Fibers,
    visits: float,
    lanes: float,
    blocks: float,
    size: int,
) -> float:
    """Return the lines of an operand's values at the leaf.

    Parameters
    ----------
    fibers : Fibers
        The operand's fibers at the leaf.
    visits, lanes : float
        Leaf fibers and lanes with the operand.
    blocks : float
        Kept blocks, if the leaf row scans.
    size : int
        Bytes of a value.
    """
    line = LINE_BYTES / size
    if not lanes:
        return 0.0
    if cell.level is None:
        return min(lanes, fibers.lines(fibers.number, 1, 1, line))
    if cell.mode is CellMode.FOLLOW and blocks:
        # the lanes of a block are neighbours
        of_block = max(1.0, LANES * cell.step / line)
        touched = of_block * -expm1(-lanes / blocks / of_block) if of_block > 1 else 1.0
        return min(lanes, blocks * touched)
    # long fibers may be visited more often than others
    span = max(profile.fill(cell.level), lanes / max(1.0, visits)) * cell.step
    # a position is a fiber's number if its values are found by rank
    stride = span if cell.mode is CellMode.SCAN else 1.0
    return min(lanes, fibers.lines(visits, span, stride, line))
