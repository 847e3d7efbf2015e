"""Predicts the pattern of an intermediate's result.

It is the boolean product of the factors' patterns. If that would take too long, entries are sampled
as if evenly distributed over the non-empty rows and columns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import expm1, prod
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..expression.notation import Access
from ..expression.operand import Operand
from ..expression.split import OneKernelError
from ..expression.view import View

MAX_PAIRS = 1 << 23
"""Maximum pairs of entries for which a product of patterns is exact."""

MAX_ENTRIES = 1 << 21
"""Maximum number of sampled entries."""

Columns = tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Distinct coordinates of ``indices``, an array for each. Of an index that it lacks, every
    coordinate is stored.
    """

    indices: tuple[str, ...]
    columns: Columns

    @property
    def entries(self) -> int:
        """Number of coordinates."""
        return len(self.columns[0]) if self.columns else 1

    def onto(self, kept: Collection[str], sizes: Mapping[str, int]) -> "Pattern":
        """Return the coordinates of the kept indices only."""
        names = tuple(i for i in self.indices if i in kept)
        if names == self.indices or not self.entries:
            at = [self.indices.index(i) for i in names]
            return Pattern(names, tuple(self.columns[n] for n in at))
        if not names:
            return Pattern((), ())
        columns = tuple(self.columns[self.indices.index(i)] for i in names)
        return Pattern(names, columns).distinct(sizes)

    def distinct(self, sizes: Mapping[str, int]) -> "Pattern":
        """Return it without repeats."""
        code = _code(self.columns, [sizes[i] for i in self.indices])
        _, first = np.unique(code, return_index=True)
        return Pattern(self.indices, tuple(c[first] for c in self.columns))

    def spread(self, indices: Sequence[str], sizes: Mapping[str, int]) -> list[NDArray[np.int64]]:
        """Return the coordinates of these indices, with all coordinates of those that it lacks."""
        lacking = [i for i in indices if i not in self.indices]
        count = prod(sizes[i] for i in lacking)
        every = np.unravel_index(np.arange(count), [sizes[i] for i in lacking]) if lacking else ()
        inner = dict(zip(lacking, every, strict=True))
        outer = dict(zip(self.indices, self.columns, strict=True))
        entries = self.entries
        return [
            np.repeat(outer[i], count) if i in outer else np.tile(inner[i], entries)
            for i in indices
        ]


EVERYWHERE = Pattern((), ())
"""The pattern of a dense factor."""


def joined(patterns: Sequence[Pattern], kept: Collection[str], sizes: Mapping[str, int]) -> Pattern:
    """Return where a product of factors of these patterns has terms, summed over all but ``kept``
    indices.
    """
    left = sorted((p for p in patterns if p.indices), key=lambda p: p.entries)
    if not left:
        return EVERYWHERE
    found, *others = left
    while others:
        # one that shares an index, if there is one
        n = next((n for n, p in enumerate(others) if set(p.indices) & set(found.indices)), 0)
        other = others.pop(n)
        needed = set(kept).union(*(p.indices for p in others))
        found = _pair(found, other, needed, sizes)
    return found.onto(kept, sizes)


def _pair(a: Pattern, b: Pattern, kept: Collection[str], sizes: Mapping[str, int]) -> Pattern:
    """Return the pattern of a product of two, projected onto kept indices."""
    shared = [i for i in a.indices if i in b.indices]
    rows = [i for i in a.indices if i in kept]
    columns = [i for i in b.indices if i in kept and i not in shared]

    def of(p: Pattern, indices: Sequence[str]) -> list[NDArray[np.int64]]:
        return [p.columns[p.indices.index(i)] for i in indices]

    def codes(p: Pattern, indices: Sequence[str]) -> NDArray[np.int64]:
        return _code(of(p, indices), [sizes[i] for i in indices], p.entries)

    both = [np.concatenate(x) for x in zip(of(a, shared), of(b, shared), strict=True)]
    code = _code(both, [sizes[i] for i in shared], a.entries + b.entries)
    _, middle = np.unique(code, return_inverse=True)
    of_a, of_b = middle[: a.entries], middle[a.entries :]
    _, row_first, row = np.unique(codes(a, rows), return_index=True, return_inverse=True)
    _, column_first, column = np.unique(codes(b, columns), return_index=True, return_inverse=True)
    count = int(middle.max(initial=-1)) + 1
    pairs = int(np.dot(np.bincount(of_a, minlength=count), np.bincount(of_b, minlength=count)))
    shape = len(row_first), len(column_first)
    if pairs <= MAX_PAIRS:
        one = np.float32(1)
        left = sp.csr_array((np.full(a.entries, one), (row, of_a)), (shape[0], count))
        right = sp.csr_array((np.full(b.entries, one), (of_b, column)), (count, shape[1]))
        r, c = (left @ right).tocoo().coords
    else:
        r, c = _drawn(shape, pairs)
    found: dict[str, Any] = {i: a.columns[a.indices.index(i)][row_first][r] for i in rows}
    found |= {i: b.columns[b.indices.index(i)][column_first][c] for i in columns}
    return Pattern(tuple(found), tuple(np.asarray(x, np.int64) for x in found.values()))


def _drawn(shape: tuple[int, int], pairs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of random pairs of entries."""
    space = shape[0] * shape[1]
    wanted = min(MAX_ENTRIES, int(-space * expm1(-pairs / space)))
    if space <= MAX_ENTRIES:
        there = np.random.default_rng(0).permutation(space)[:wanted]
    else:
        there = np.unique(np.random.default_rng(0).integers(0, space, wanted))
    return np.divmod(np.sort(there), shape[1])


def _code(
    columns: Sequence[NDArray[np.int64]], sizes: Sequence[int], entries: int = 0
) -> NDArray[np.int64]:
    """Return a number for each tuple, equal only for equal tuples if the space has fewer than 2^63
    of them; for a larger space, their ranks.
    """
    if not columns:
        return np.zeros(entries, np.int64)
    if prod(sizes) >= 1 << 63:
        _, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
        return inverse.reshape(-1)
    code = np.zeros(len(columns[0]), np.int64)
    for column, size in zip(columns, sizes, strict=True):
        code = code * size + column
    return code


def pattern_of(access: Access, operand: Operand) -> Pattern:
    """Return the pattern of an operand."""
    if not operand.sparse:
        return EVERYWHERE
    if isinstance(operand, View):
        loops = tuple(sorted(access.indices, key=lambda i: _alone(access, i)))
        try:
            stored = operand.stored(access, loops)
            profile = operand.profile(stored)
        except OneKernelError:
            return EVERYWHERE
        # a sample tells less of a sum's entries than that there are many
        if profile.entries is None or profile.scale > 1:
            return EVERYWHERE
        return Pattern(stored.indices, profile.entries)
    coordinates = operand.coordinates()
    return EVERYWHERE if coordinates is None else Pattern(access.indices, tuple(coordinates))


def _alone(access: Access, index: str) -> bool:
    """Return whether an index is a coordinate by itself."""
    places = access.places or ()
    return sum(index in dict(place.terms) for place in places) == 1 and any(
        place.plain == index for place in places
    )
