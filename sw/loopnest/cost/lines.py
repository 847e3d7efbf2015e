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

from ..formats.profile import Profile
from ..named import named
from ..nest.nest import Cell, Row

RANDOM = -np.log(1 - (np.arange(16) + 0.5) / 16)
"""Distances between random places, in units of the mean distance."""


@named
@dataclass(frozen=True)
class Burst:
    """Lines of a stream that come together: a share of its fibers crosses a line boundary, and
    reads both lines repeatedly, ``lines`` in all for each; the others read none.
    """

    fibers: float
    share: float
    lines: float

    def cycles(self, ring: int, trip: float, steps: float) -> float:
        """Return the cycles that a kernel waits for these lines. A line is in the ring for ``trip``
        cycles, and the leaf's row takes ``steps`` cycles. When a burst begins, the ring is full of
        its lines; each of the others is requested when one before it is used.
        """
        wait = max(0.0, self.lines - ring) * trip / ring
        return self.share * max(0.0, self.fibers * wait - steps)


@dataclass(frozen=True)
class Fibers:
    """The sequence of a column's fibers that a row visits: how often the fiber changes, and a
    sample of the distances in positions between successive ones.
    """

    number: float
    distance: NDArray[np.float64]

    def lines(
        self,
        visits: float,
        span: float,
        stride: float,
        line: float,
        taken: float = 1.0,
    ) -> float:
        """Return the lines of ``visits`` fibers, with ``line`` items per line: a fiber's items lie
        within ``span`` items, and neighbouring positions are ``stride`` items apart; a visit reads
        a share ``taken`` of the items.
        """
        alone = self.alone(span, line)
        # one that begins a line or more before the end of the previous one shares no line with it
        distance = self.distance * stride
        near = np.minimum(alone, distance / line)
        near[distance <= span - line] = alone
        new = self.number * float(near.sum()) / len(near)
        # a fiber within one line is not read again
        again = min(alone, self._changes(span * taken, taken) * (alone - 1))
        return new + max(0.0, visits - self.number) * again

    def some(self, number: float) -> "Fibers":
        """Return some of the fibers, at random."""
        if number >= self.number:
            return self
        return Fibers(number, self.distance * (self.number / max(1.0, number)))

    @staticmethod
    def _changes(items: float, taken: float) -> float:
        """Return how often a visit of a fiber in two lines changes between them: twice if it reads
        every item; if it reads some, those of one line may be none.
        """
        return 2 - (1 - taken) * 10 / 3 / (max(1.0, items) + 1)

    @staticmethod
    def alone(span: float, line: float) -> float:
        """Return the lines of a fiber none of whose lines was read just before."""
        return 1 + max(0.0, span - 1) / line

    def burst(self, visits: float, span: float, line: float, taken: float = 1.0) -> Burst | None:
        """Return the burst of the lines, with arguments as those of `lines`; None if the lines are
        distributed evenly.
        """
        across = self.alone(span, line) - 1
        if not self.number or visits < 1.5 * self.number or across >= 1:
            return None
        lines = self._changes(span * taken, taken) * visits / self.number
        return Burst(self.number, across, lines)


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
    mean = fibers * profiles[column].fill(cell.level)
    return 1 + (mean - 1) * RANDOM if mean > 1 else np.ones(1)


def read_share(
    row: Row, profiles: Sequence[Profile], column: int, fibers: Fibers, size: int, kept: int
) -> float:
    """Return the share of the lines of a column's values, of ``size`` bytes, that its stream has
    not ``kept``, where the coordinates that the leaf's row scans tell it; elsewhere 1.
    """
    cell = row.cells[column]
    scanned = [
        (c, x.level) for c, x in enumerate(row.cells) if x.mode is CellMode.SCAN and c != column
    ]
    if cell.mode is not CellMode.FOLLOW or fibers.number > 1 or len(scanned) != 1:
        return 1.0
    ((c, level),) = scanned
    assert level is not None
    return profiles[c].read_share(level, cell.step * size, kept)


def value_lines(
    cell: Cell,
    profile: Profile,
    fibers: Fibers,
    visits: float,
    lanes: float,
    blocks: float,
    size: int,
) -> tuple[float, Burst | None]:
    """Return the lines of an operand's values at the leaf, and their burst.

    Parameters
    ----------
    fibers : Fibers
        The operand's fibers at the leaf.
    visits, lanes : float
        Leaf fibers that have lanes, and lanes, with the operand.
    blocks : float
        Kept blocks, if the leaf row scans.
    size : int
        Bytes of a value.
    """
    line = LINE_BYTES / size
    if not lanes:
        return 0.0, None
    fibers = fibers.some(visits)
    if cell.level is None:
        return min(lanes, fibers.lines(fibers.number, 1, 1, line)), None
    if cell.mode is CellMode.FOLLOW and blocks:
        # the lanes of a block are neighbours
        of_block = max(1.0, LANES * cell.step / line)
        touched = of_block * -expm1(-lanes / blocks / of_block) if of_block > 1 else 1.0
        return min(lanes, blocks * touched), None
    # long fibers may be visited more often than others
    fill = max(profile.fill(cell.level), lanes / max(1.0, visits))
    span = fill * cell.step
    # a position is a fiber's number if its values are found by rank
    stride = span if cell.mode is CellMode.SCAN else 1.0
    taken = min(1.0, lanes / max(1.0, visits * fill))
    lines = min(lanes, fibers.lines(visits, span, stride, line, taken))
    return lines, fibers.burst(visits, span, line, taken)
