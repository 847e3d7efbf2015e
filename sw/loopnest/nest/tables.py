"""The coordinates that a row visits: its tables, and whether it needs the all-ones fiber.

A row visits coordinates of its join inputs: the fibers that it scans, and the all-ones fiber. If
the expression can be nonzero outside the scanned fibers (a dense operand in a union, or no scanned
operand at all), one cell has to be the all-ones fiber.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..expression.split import OneKernelError
from .lane import Lane


@dataclass(frozen=True)
class JoinRow:
    """A row before its all-ones cell is placed.

    ``scans`` has bit c set if column c scans; ``others`` are the other columns, the preferred ones
    for the all-ones fiber first.
    """

    index: str | None
    scans: int
    others: tuple[int, ...]


def keep_tables(lane: Lane, operands: int, joins: int, *, last: bool) -> tuple[int, int]:
    """Return a row's block and lane table for a chip with ``operands`` columns: bit p keeps pattern
    p.

    A pattern without any of the columns ``joins`` (bit c: column c has a join input) is dropped: it
    is a lane of no fiber, such as one past the end of the all-ones fiber. Both tables are equal,
    since no absence makes an expression nonzero, except in the row of a complemented mask's last
    level (``last``), where a block of the mask may lack lanes of the operands' block.
    """
    used = (1 << len(lane.columns)) - 1
    patterns = [p for p in range(1 << operands) if p & joins]
    blocks = sum(lane.needs(p & used) << p for p in patterns)
    return blocks, sum(lane.keeps(p & used, last=last) << p for p in patterns)


def place_ones(lane: Lane, rows: Sequence[JoinRow]) -> list[int | None]:
    """Return the all-ones column of each row, or None where it needs none.

    Raises
    ------
    OneKernelError
        If a row needs the all-ones fiber but no operand is always present, or if in some lane a
        factor of a product would be absent.
    """
    # The sets of operands that can be present in a row's tokens: all, in the first one.
    reachable = {(1 << len(lane.columns)) - 1}
    placed: list[int | None] = []
    for row in rows:
        choices: list[int | None] = [None] if row.scans else []
        for column in [*choices, *row.others]:
            if all(_covered(lane, present, row.scans, column) for present in reachable):
                break
        else:
            raise OneKernelError(
                f"loop {row.index!r} has to visit coordinates that no scanned operand has, and no "
                f"operand that does not scan it is present in every fiber: a single kernel can't"
            )
        placed.append(column)
        reachable = {q for p in reachable for q in _outcomes(p, row.scans) if lane.needs(q)}
    for present in sorted(reachable):
        if not lane.computes(present):
            raise OneKernelError(
                "a product in a sum would be computed where one of its factors is absent: a single "
                "kernel can't"
            )
    return placed


def _covered(lane: Lane, present: int, scans: int, ones: int | None) -> bool:
    """Return whether the join inputs have every coordinate that these operands require."""
    if ones is not None and present >> ones & 1:
        return True
    return not lane.needs(present & ~scans)


def _outcomes(present: int, scans: int) -> list[int]:
    """Return the sets that can be present at a coordinate: any subset of the scanned operands, and
    all others.
    """
    scanned = present & scans
    found, subset = [present & ~scans], scanned
    while subset:
        found.append(present & ~scans | subset)
        subset = (subset - 1) & scanned
    return found
