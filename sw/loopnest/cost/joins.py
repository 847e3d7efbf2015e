"""Counts the coordinates that a nest's rows visit, from its operands' stored entries."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, ChipConfig
from loopnest_hw.descriptor import CellMode, LeafMode
from loopnest_hw.format import LINE_WORDS

from ..formats.pack import COMPRESSED
from ..formats.profile import Profile
from ..nest.lane import Lane
from ..nest.nest import Nest, Row
from ..nest.result import ResultPlan
from .counts import Counted, Counts
from .relation import Relation

HANDED_ON = 2
"""Blocks that a scanner passes on for each block of the other operand, if it skips blocks.
"""

SKIPPING = (6.0, 1.7)
"""Measured cycles of a join of fibers if it skips blocks of some of them: of each fiber, and of
each block of the shortest needed one; in addition to those for the lines of the longest one.
"""

BLOCK = " block"
"""Suffix of an index of a relation over a loop's blocks instead of its coordinates."""


class Joins:
    """Counts of a nest whose column c holds ``profiles[c]``.

    At coordinates of some loops an operand is present if it stores them, down to the last of its
    compressed levels that the loops reach; its dense levels have all coordinates.
    """

    def __init__(self, nest: Nest, profiles: Sequence[Profile], counts: Counts) -> None:
        self._columns = nest.columns
        self._profiles = profiles
        self._counts = counts
        self._needed = _needed(nest.lane)
        # a coordinate that one of these lacks is not in the result
        self._everywhere = frozenset.intersection(*self._needed) if self._needed else frozenset()
        self._sizes: dict[str, int] = {}
        for row in nest.rows:
            if row.index is not None:
                self._sizes |= {row.index: row.size, _block(row): -(-row.size // LANES)}
        self._theres: dict[tuple[int, tuple[str, ...]], Counted | None] = {}
        self._found: dict[tuple[tuple[str, ...], frozenset[int]], float] = {}

    def tokens(self, loops: tuple[str, ...], also: Collection[int] = ()) -> float:
        """Return the number of coordinates of these loops that lead to a term and have the columns
        ``also``.
        """
        key = (loops, frozenset(also))
        if key not in self._found:
            self._found[key] = self._count(loops, {}, also)
        return self._found[key]

    def words(self, loops: tuple[str, ...], row: Row) -> list[float]:
        """Return the block words that each column of a row scans."""
        found = [0.0] * len(self._columns)
        for column, level in _scanned(row).items():
            found[column] = self._weighted(
                loops, column, level, "words", self._profiles[column].fiber_words
            )
        return found

    def passed_on(self, loops: tuple[str, ...], row: Row) -> list[float]:
        """Return how many of these block words are not skipped."""
        words = self.words(loops, row)
        found = list(words)
        for column in _scanned(row):
            others = (self._everywhere & _scanned(row).keys()) - {column}
            if others and not any(cell.ones for cell in row.cells):
                most = HANDED_ON * min(words[other] for other in others)
                found[column] = min(words[column], most)
        return found

    def merged(self, loops: tuple[str, ...], row: Row, pair: int) -> float:
        """Return the merge steps of a row's joiner: its fibers' blocks, without skipped ones; of a
        single fiber, ``pair`` words are one step.
        """
        scanned = _scanned(row)
        if not scanned or any(cell.ones for cell in row.cells):
            return self.tokens(loops) * -(-row.size // LANES)
        if len(scanned) == 1:
            ((column, level),) = scanned.items()
            words = self._profiles[column].fiber_words
            return self._weighted(
                loops, column, level, ("pairs", pair), lambda level: -(-words(level) // pair)
            )
        found = 0.0
        for size in range(1, len(scanned) + 1):
            for some in combinations(scanned, size):
                blocks = {c: self._blocks(c, scanned[c]) for c in some}
                found -= (-1) ** size * self._count((*loops, _block(row)), blocks, some)
        needed = self._everywhere & scanned.keys()
        if not needed:
            return found
        # what a needed fiber lacks is skipped in all others, also in those of a mask
        scans = self.words(loops, row)
        of_fiber, of_block = SKIPPING
        skipping = of_fiber * self._all_filled(loops, row)
        skipping += of_block * min(scans[c] for c in needed)
        skipping += max(scans[c] for c in scanned) / LINE_WORDS
        return min(found, skipping)

    def kept_blocks(self, loops: tuple[str, ...], row: Row) -> float:
        """Return the blocks in which all operands of a term have coordinates."""
        scanned = _scanned(row)
        if not scanned or any(cell.ones for cell in row.cells):
            return self.tokens(loops) * -(-row.size // LANES)
        blocks = {c: self._blocks(c, level) for c, level in scanned.items()}
        return self._count((*loops, _block(row)), blocks)

    def filled(self, loops: tuple[str, ...], row: Row) -> float:
        """Return how many of the tokens of these loops have coordinates in this row."""
        scanned = _scanned(row)
        before, kept = self.tokens(loops), self.tokens(_below(loops, row))
        if not scanned:
            return min(before, kept)
        most = min(before, kept, self._all_filled(loops, row))
        if most and any(len(needed & scanned.keys()) > 1 for needed in self._needed):
            # which fibers share coordinates is not known
            most *= -float(np.expm1(-kept / most))
        return most

    def _all_filled(self, loops: tuple[str, ...], row: Row) -> float:
        """Return how many tokens of these loops have coordinates of all columns that a row scans
        and that a term needs.
        """
        there = {}
        for column, level in _scanned(row).items():
            there[column] = self._fibers(column, level, "filled", partial(self._filled, column))
        return self._count(loops, there)

    def _filled(self, column: int, level: int) -> NDArray[Any]:
        return self._profiles[column].fiber_words(level) > 0

    def steps(
        self, config: ChipConfig, result: ResultPlan, loops: tuple[str, ...], row: Row
    ) -> float:
        """Return the steps with lanes of the leaf row."""
        lanes, m = self.tokens(_below(loops, row)), config.multipliers
        mode, skewed = result.leaf_mode, result.accumulate
        if mode is LeafMode.SCATTER or m == 1 or not lanes:
            return lanes
        scanned = _scanned(row)
        if not scanned or any(cell.ones for cell in row.cells):
            return self.tokens(loops) * -(-row.size // m)
        if len(scanned) == 1:
            ((column, level),) = scanned.items()
            steps = self._profiles[column].fiber_steps
            return self._weighted(
                loops,
                column,
                level,
                ("steps", m, mode, skewed),
                lambda level: steps(level, m, mode, skewed=skewed),
            )
        filled = self.filled(loops, row)
        of_fiber, blocks = lanes / filled, self.kept_blocks(loops, row) / filled
        # a step takes two blocks at most, and the last one of a fiber is half full
        return filled * max(1.0, (min(blocks, of_fiber) + 1) / 2, (of_fiber + (m - 1) / 2) / m)

    def gathers(
        self, config: ChipConfig, result: ResultPlan, loops: tuple[str, ...], row: Row
    ) -> float:
        """Return the cycles of an operand's values at the leaf, if it reads one line per block."""
        scanned = _scanned(row)
        if len(scanned) != 1 or any(cell.ones for cell in row.cells):
            return self.steps(config, result, loops, row)
        ((column, level),) = scanned.items()
        cycles, m = self._profiles[column].fiber_gathers, config.multipliers
        mode, skewed = result.leaf_mode, result.accumulate
        return self._weighted(
            loops,
            column,
            level,
            ("gathers", m, mode, skewed),
            lambda level: cycles(level, m, mode, skewed=skewed),
        )

    def _weighted(
        self,
        loops: tuple[str, ...],
        column: int,
        level: int,
        name: Hashable,
        weight: Callable[[int], NDArray[Any]],
    ) -> float:
        """Sum a weight of a column's fibers over the tokens in which it is present; ``name`` is
        that of the weight.
        """
        return self._count(loops, {column: self._fibers(column, level, name, weight)}, (column,))

    def _count(
        self,
        loops: tuple[str, ...],
        given: Mapping[int, Counted],
        also: Collection[int] = (),
    ) -> float:
        """Count the coordinates of ``loops`` at which the expression has a term, by inclusion and
        exclusion over its terms. Some columns' relations are given; ``also`` must be present.
        """
        found = 0.0
        for size in range(1, len(self._needed) + 1):
            for terms in combinations(self._needed, size):
                columns = frozenset(also).union(*terms)
                relations = [given.get(c) or self._present(c, loops) for c in columns]
                present = [r for r in relations if r is not None]
                found -= (-1) ** size * self._counts.total(present, loops, self._sizes)
        return max(0.0, found)

    def _present(self, column: int, loops: tuple[str, ...]) -> Counted | None:
        """Return `_there`, found once."""
        key = column, loops
        if key not in self._theres:
            self._theres[key] = self._there(column, loops)
        return self._theres[key]

    def _there(self, column: int, loops: tuple[str, ...]) -> Counted | None:
        """Return where an operand is present; None if it is everywhere."""
        stored, profile = self._columns[column], self._profiles[column]
        depth = reached = 0
        for level, (kind, index) in enumerate(zip(stored.levels, stored.indices, strict=True)):
            reached += index in loops
            if kind == COMPRESSED and reached == level + 1:
                depth = level + 1
        if not depth:
            return None
        indices = stored.indices[:depth]

        def make() -> Relation:
            nodes = profile.nodes(depth)
            return Relation(indices, nodes, np.full(len(nodes[0]), profile.scale))

        return Counted((*self._operand(column), "there", frozenset(indices)), make)

    def _fibers(
        self, column: int, level: int, name: Hashable, weight: Callable[[int], NDArray[Any]]
    ) -> Counted:
        """Return a level's non-empty fibers, each with a weight."""
        stored, profile = self._columns[column], self._profiles[column]
        above, index = stored.indices[:level], stored.indices[level]

        def make() -> Relation:
            return Relation(above, profile.nodes(level), weight(level) * profile.scale)

        return Counted((*self._operand(column), name, frozenset(above), index), make)

    def _blocks(self, column: int, level: int) -> Counted:
        """Return the blocks of a level."""
        stored, profile = self._columns[column], self._profiles[column]
        above, index = stored.indices[:level], stored.indices[level]

        def make() -> Relation:
            nodes = profile.word_nodes(level)
            scale = np.full(len(nodes[0]), profile.scale)
            return Relation((*above, f"{index}{BLOCK}"), nodes, scale)

        return Counted((*self._operand(column), "blocks", frozenset(above), index), make)

    def _operand(self, column: int) -> tuple[Hashable, ...]:
        """Return what tells the entries of a column, by index, from those of others."""
        return self._profiles[column].owner, self._columns[column].access.indices


@lru_cache(maxsize=64)
def _needed(lane: Lane) -> list[frozenset[int]]:
    """Return the minimal sets of operands that give a term."""
    numbers = range(len(lane.columns))
    patterns = [
        frozenset(some)
        for size in range(1, len(numbers) + 1)
        for some in combinations(numbers, size)
        if lane.needs(sum(1 << c for c in some))
    ]
    return [p for p in patterns if not any(q < p for q in patterns)]


def _scanned(row: Row) -> dict[int, int]:
    """Return the levels that a row scans, by column."""
    cells = enumerate(row.cells)
    return {c: x.level for c, x in cells if x.mode is CellMode.SCAN and x.level is not None}


def _below(loops: tuple[str, ...], row: Row) -> tuple[str, ...]:
    return loops if row.index is None else (*loops, row.index)


def _block(row: Row) -> str:
    return f"{row.index}{BLOCK}"
