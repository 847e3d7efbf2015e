"""Chooses the levels of a kernel's operands such that its rows can walk and join them.

The operands' own levels are preferred, or compressed ones where many fibers are empty. If the rows
cannot walk them, others are tried: sparse operands with compressed levels only; with dense outer
levels, which need no scanner; and, if an absent entry is equivalent to a 0, without compressed
levels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from loopnest_hw.config import ChipConfig

from ..expression.notation import Access, Statement
from ..expression.operand import Operand
from ..expression.split import OneKernelError
from ..formats.pack import COMPRESSED
from ..nest.lane import Lane
from ..nest.nest import Nest, build_nest
from .streams import CrowdedError, assign_scanners

MAX_FIBERS = 1 << 20
"""Maximum fibers below an outer level that is made dense: each takes an entry of a position
table.
"""

MAX_DENSE = 1 << 22
"""Maximum number of values of a sparse operand that is stored dense."""

MIN_SIZE = 1024
"""Coordinates of an index from which empty fibers are looked for."""

Choice = tuple[frozenset[str], ...]
"""For each column, the indices whose levels have to be dense."""


def empty_fibers(
    statement: Statement, operands: Sequence[Operand], sizes: Mapping[str, int]
) -> list[int]:
    """Return the sparse operands of which many fibers are empty, if some level is outermost: they
    have no more entries than that has coordinates. With a compressed level there, empty fibers are
    not visited, and take no entry of a position table. A `Tensor` has the levels that it has.
    """
    return [
        n
        for n, (access, operand) in enumerate(zip(statement.accesses, operands, strict=True))
        if operand.sparse
        and operand.given is None
        and not operand.is_view
        and len(access.indices) > 1
        and max(MIN_SIZE, operand.nnz) <= max(sizes[i] for i in access.indices)
    ]


@dataclass(frozen=True)
class Storage:
    """The operands of a kernel with a given loop order.

    Attributes
    ----------
    loops : tuple of str
        Outermost first.
    sizes : mapping of str to int
        Of the indices.
    operands, accesses : tuple
        By column.
    visited : tuple of str
        Loops in which every coordinate has to be visited: no operand except a mask may skip any.
        The mask has compressed levels only and so no empty fiber, whose end would be a result
        fiber's.
    compressed : frozenset of int
        Columns whose operands have compressed levels only (`empty_fibers`).
    """

    config: ChipConfig
    lane: Lane
    loops: tuple[str, ...]
    sizes: Mapping[str, int]
    operands: tuple[Operand, ...]
    accesses: tuple[Access, ...]
    visited: tuple[str, ...] = ()
    compressed: frozenset[int] = frozenset()

    def nest(self, *, relaxed: bool, absent_is_zero: bool) -> Nest:
        """Return the nest; ``relaxed``: operands may have dense levels for compressed ones.

        Raises
        ------
        OneKernelError
            If there is none; the message explains why the operands' own levels cannot be used.
        """
        problem: OneKernelError | None = None
        crowded = False
        for stage, allowed in (
            (self._as_they_are, True),
            (self._outer_dense, relaxed),
            (self._dense, relaxed and absent_is_zero),
        ):
            # a dense outer level saves a scanner, and has no other advantage
            needed = stage != self._outer_dense or crowded
            for choice, compress in stage() if allowed and needed else ():
                try:
                    nest = self._build(choice, compress)
                    assign_scanners(self.config, nest)
                except OneKernelError as error:
                    problem = problem or error
                    crowded |= isinstance(error, CrowdedError)
                else:
                    return nest
        assert problem is not None
        raise problem

    def _build(self, choice: Choice, compress: bool) -> Nest:
        columns = []
        for c, (operand, access) in enumerate(zip(self.operands, self.accesses, strict=True)):
            visited: tuple[str, ...] = () if c == self.lane.mask else self.visited
            columns.append(
                operand.stored(
                    access,
                    self.loops,
                    dense=choice[c].union(visited),
                    compress=c in self.compressed
                    or (bool(compress or self.visited) and not visited),
                )
            )
        return build_nest(self.lane, columns, self.loops, self.sizes, self.config.rows)

    def _as_they_are(self) -> Iterator[tuple[Choice, bool]]:
        for compress in (False, True):
            yield (frozenset(),) * len(self.operands), compress

    def _outer_dense(self) -> Iterator[tuple[Choice, bool]]:
        """Yield choices of dense outer levels, the fewest first, and among these the fewest fibers
        first.
        """
        for compress in (False, True):
            found: list[tuple[int, int, str]] = []
            for c, (operand, access) in enumerate(zip(self.operands, self.accesses, strict=True)):
                if self.visited and c == self.lane.mask:
                    continue
                try:
                    stored = operand.stored(access, self.loops, compress=compress)
                except OneKernelError:
                    continue
                scanned = [n for n, kind in enumerate(stored.levels) if kind == COMPRESSED]
                for level in scanned[:-1]:
                    fibers = prod(stored.sizes[: level + 1])
                    if stored.indices[level] != self.loops[0] and fibers <= MAX_FIBERS:
                        found.append((fibers, c, stored.indices[level]))
            found.sort()
            for count in range(1, len(found) + 1):
                for some in combinations(found, count):
                    yield self._choice([(c, frozenset([index])) for _, c, index in some]), compress

    def _dense(self) -> Iterator[tuple[Choice, bool]]:
        """Yield choices of operands to store dense, the fewest first."""
        some = [
            (c, frozenset(self.accesses[c].indices))
            for c, operand in enumerate(self.operands)
            if operand.sparse and c != self.lane.mask and prod(operand.shape) <= MAX_DENSE
        ]
        for count in range(1, len(some) + 1):
            for chosen in combinations(some, count):
                for compress in (False, True):
                    yield self._choice(chosen), compress

    def _choice(self, some: Iterable[tuple[int, frozenset[str]]]) -> Choice:
        found = [frozenset[str]()] * len(self.operands)
        for column, indices in some:
            found[column] |= indices
        return tuple(found)
