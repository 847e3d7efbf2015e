"""Counts of an operand's levels, from its coordinates: the cost model's input."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LANES, LINE_BYTES
from loopnest_hw.descriptor import LeafMode
from loopnest_sim.model.gather import LineStore
from loopnest_sim.model.skew import is_skewed
from loopnest_sim.model.steps import form_steps

from .entries import Columns, codes
from .pack import COMPRESSED

SAMPLE = 4096
"""Approximate number of sampled gaps between coordinates."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts by level, outermost first.

    Attributes
    ----------
    sizes : tuple of int
        Coordinates of each level's index.
    fibers : tuple of int
        Fibers of the level: the children of the one above, 1 at the outermost.
    children : tuple of int
        Coordinates over all fibers: the stored ones, or all of a dense level's.
    words : tuple of int
        Block words over all fibers (for a dense level, those that it would take if compressed).
    entries : tuple of arrays, optional
        Coordinates of the stored entries by level, sorted; None if every coordinate is stored.
    scale : float
        How many entries each of these stands for: 1 unless they are a sample.
    owner : object
        The operand: its profiles have the same entries, with the levels in different orders.
    typical : tuple of float, optional
        Those of `typical_blocks`, where the entries are not kept.
    """

    sizes: tuple[int, ...]
    fibers: tuple[int, ...]
    children: tuple[int, ...]
    words: tuple[int, ...]
    entries: Columns | None = field(repr=False)
    scale: float = 1.0
    owner: Hashable = None
    typical: tuple[float, ...] | None = None
    _kept: dict[tuple[object, ...], NDArray] = field(default_factory=dict, repr=False)

    def fill(self, level: int) -> float:
        """Return the mean number of coordinates of a fiber."""
        return self.children[level] / max(1, self.fibers[level])

    def blocks(self, level: int) -> float:
        """Return the mean number of block words of a fiber."""
        return self.words[level] / max(1, self.fibers[level])

    def typical_blocks(self, level: int) -> float:
        """Return the mean number of block words of the fiber in which a word is: more than that of
        a fiber, if they differ.
        """
        if self.typical is not None:
            return self.typical[level]
        words = self.fiber_words(level) if self.entries is not None else np.zeros(0)
        return float((words * words).sum() / words.sum()) if len(words) else self.blocks(level)

    def totals(self) -> "Profile":
        """Return the counts of whole levels alone."""
        typical = tuple(self.typical_blocks(level) for level in range(len(self.sizes)))
        return replace(self, entries=None, typical=typical, _kept={})

    def nodes(self, levels: int) -> Columns:
        """Return the coordinates of all nodes of the first ``levels`` levels."""
        assert self.entries is not None
        at = self._starts(levels)
        return tuple(column[at] for column in self.entries[:levels])

    def word_nodes(self, level: int) -> Columns:
        """Return the coordinates in the levels above, and the block, of a level's words."""
        assert self.entries is not None
        at = self._word_starts(level)
        return (*(c[at] for c in self.entries[:level]), self.entries[level][at] // LANES)

    def fiber_words(self, level: int) -> NDArray[np.int64]:
        """Return the number of words of each of a level's fibers, in the order of `nodes`; empty
        fibers are omitted.
        """
        return self._once(("words", level), lambda: self._by_fiber(level, self._word_starts(level)))

    def fiber_steps(
        self, level: int, multipliers: int, mode: LeafMode, *, skewed: bool
    ) -> NDArray[np.int64]:
        """Return the leaf steps of each fiber, likewise, if all its coordinates are kept;
        ``skewed``: and are added in the accumulator's banks.
        """
        return self._steps(level, multipliers, mode, skewed)[0]

    def fiber_gathers(
        self, level: int, multipliers: int, mode: LeafMode, *, skewed: bool
    ) -> NDArray[np.int64]:
        """Return the same for a stream that reads a line for each block: a step that begins two
        blocks takes two cycles.
        """
        return self._steps(level, multipliers, mode, skewed)[1]

    def _steps(
        self, level: int, multipliers: int, mode: LeafMode, skewed: bool
    ) -> NDArray[np.int64]:
        def count() -> NDArray[np.int64]:
            assert self.entries is not None
            starts, words = self._starts(level + 1), self._word_starts(level)
            bits = (1 << self.entries[level][starts] % LANES).astype(np.int64)
            place = np.searchsorted(starts, words)
            masks = np.add.reduceat(bits, place) if len(place) else bits
            fiber = np.searchsorted(self._starts(level), words, side="right") - 1
            # blocks are numbered as if no outer loop added to the key
            odd = is_skewed(self.entries[level][words] // LANES) & skewed
            steps = form_steps(fiber, masks.astype(np.uint16), multipliers, mode, odd)
            begins_two = np.zeros(len(words), np.bool_)
            begins_two[1:] = (steps.taken[1:] > 0) & (steps.taken[:-1] == 0)
            begins_two[1:] &= steps.count[:-1] == 1
            fibers = len(self._starts(level))
            by_fiber = [
                np.bincount(fiber, cycles, minlength=fibers)
                for cycles in (steps.count, steps.count + begins_two)
            ]
            return np.stack(by_fiber).astype(np.int64)

        return self._once(("steps", level, multipliers, mode, skewed), count)

    def gaps(self, level: int) -> NDArray[np.int64]:
        """Return a sample of the distances between successive coordinates of a level; the level's
        size between different fibers.
        """

        def find() -> NDArray[np.int64]:
            assert self.entries is not None
            at = self._starts(level + 1)
            gap = np.diff(self.entries[level][at], prepend=0)
            gap[self._differs(level)[at]] = self.sizes[level]
            return gap[:: -(-len(gap) // SAMPLE)] if len(gap) else gap

        return self._once(("gaps", level), find)

    def read_share(self, level: int, step: int, kept: int) -> float:
        """Return the share of the lines taken for a vector's values at a level's coordinates, which
        are ``step`` bytes apart, that are not among the ``kept`` ones; 1 if every coordinate is
        stored.
        """

        def find() -> NDArray[np.int64]:
            assert self.entries is not None
            line = self.entries[level][self._starts(level + 1)] * step // LINE_BYTES
            taken = line[_changes(line)]
            return np.array([np.count_nonzero(LineStore(kept).not_kept(taken)), len(taken)])

        if self.entries is None:
            return 1.0
        read, taken = self._once(("read", level, step, kept), find).tolist()
        return float(read / max(1, taken))

    def _differs(self, levels: int) -> NDArray[np.bool_]:
        """Return where an entry differs from the one before it in the first ``levels`` levels."""

        def find() -> NDArray[np.bool_]:
            assert self.entries is not None
            if not levels:
                return np.arange(len(self.entries[0])) == 0
            return self._differs(levels - 1) | _changes(self.entries[levels - 1])

        return self._once(("differs", levels), find)

    def _starts(self, levels: int) -> NDArray[np.int64]:
        """Return the first entry of each node of the first ``levels`` levels."""
        return self._once(("starts", levels), lambda: np.flatnonzero(self._differs(levels)))

    def _word_starts(self, level: int) -> NDArray[np.int64]:
        assert self.entries is not None
        column = self.entries[level]
        return self._once(
            ("word starts", level),
            lambda: np.flatnonzero(self._differs(level) | _changes(column // LANES)),
        )

    def _by_fiber(self, level: int, items: NDArray[np.int64]) -> NDArray[np.int64]:
        fibers = self._starts(level)
        return np.bincount(np.searchsorted(fibers, items, side="right") - 1, minlength=len(fibers))

    def _once(self, key: tuple[object, ...], make: Callable[[], NDArray]) -> NDArray:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def take_profile(
    owner: Hashable,
    levels: Sequence[str],
    sizes: Sequence[int],
    coordinates: Sequence[NDArray[np.int64]] | None,
    scale: float = 1.0,
) -> Profile:
    """Count the contents of each level.

    Parameters
    ----------
    owner : object
        The operand.
    coordinates : sequence of arrays, optional
        Of the stored entries, by level, in any order; None if every coordinate is stored.
    scale : float
        How many entries each stands for.
    """
    fibers: list[int] = []
    children: list[int] = []
    words: list[int] = []
    entries: Columns | None = None
    if coordinates is not None:
        entries = _sorted(coordinates, sizes)
        # where an entry differs from the one before it, in the levels so far
        differs = np.arange(len(entries[0])) == 0
    nodes = 1
    for l, (kind, size) in enumerate(zip(levels, sizes, strict=True)):
        fibers.append(nodes)
        if kind == COMPRESSED and entries is not None:
            found = np.count_nonzero(differs | _changes(entries[l] // LANES))
            words.append(round(scale * int(found)))
        else:
            words.append(nodes * -(-size // LANES))
        if entries is not None:
            differs = differs | _changes(entries[l])
        if kind == COMPRESSED and entries is not None:
            nodes = round(scale * int(np.count_nonzero(differs)))
        else:
            nodes *= size
        children.append(nodes)
    counts = tuple(sizes), tuple(fibers), tuple(children), tuple(words)
    return Profile(*counts, entries, scale, owner)


def _sorted(coordinates: Sequence[NDArray[np.int64]], sizes: Sequence[int]) -> Columns:
    """Return tuples of coordinates in lexicographic order."""
    code = codes(coordinates, sizes)
    if code is None:
        at = np.lexsort(list(coordinates)[::-1])
        return tuple(c[at] for c in coordinates)
    if (code[1:] >= code[:-1]).all():
        return tuple(coordinates)
    code = np.sort(code)  # several times as fast as argsort
    found = []
    for size in reversed(sizes):
        code, column = np.divmod(code, max(1, size))
        found.append(column)
    return tuple(reversed(found))


def _changes(sorted_coordinates: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.diff(sorted_coordinates, prepend=sorted_coordinates[:1]) != 0
