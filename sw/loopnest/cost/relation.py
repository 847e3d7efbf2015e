"""Counts the coordinates that operands have in common, exactly, from their stored entries.

A relation is a set of coordinate tuples of some loops, each with a weight. The join of relations
has the tuples that all of them have, weighted by the product of their weights; in a loop that none
of them has, it has every coordinate.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats.entries import Columns

MAX_DIRECT = 1 << 22
"""Maximum number of coordinates for which a lookup table is used instead of a search."""

MAX_TUPLES = 1 << 18
"""Maximum tuples of a join that is computed; a larger one is estimated."""


@dataclass(frozen=True, eq=False)
class Relation:
    """Coordinates of ``indices``, an array for each, and the weight of each tuple of them."""

    indices: tuple[str, ...]
    columns: Columns
    weight: NDArray[np.float64]

    def onto(self, kept: Collection[str], sizes: Mapping[str, int]) -> "Relation":
        """Return the sums of the weights over all but the kept indices."""
        at = [n for n, index in enumerate(self.indices) if index in kept]
        if len(at) == len(self.indices):
            return self
        if not at:
            return Relation((), (), np.array([self.weight.sum()]))
        names = tuple(self.indices[n] for n in at)
        columns = tuple(self.columns[n] for n in at)
        (code,), space = _codes([columns], [sizes[i] for i in names])
        if space <= MAX_DIRECT:
            sums: NDArray[Any] = np.bincount(code, self.weight, minlength=space)
            found = np.flatnonzero(np.bincount(code, minlength=space))
            first = np.empty(space, np.int64)
            first[code] = np.arange(len(code))
            return Relation(names, tuple(c[first[found]] for c in columns), sums[found])
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        weight: NDArray[Any] = np.bincount(inverse, self.weight, minlength=len(first))
        return Relation(names, tuple(c[first] for c in columns), weight)

    def times(self, other: "Relation", sizes: Mapping[str, int]) -> "Relation":
        """Return the join with a relation of some of the same indices."""
        mine = tuple(self.columns[self.indices.index(i)] for i in other.indices)
        (code, others), space = _codes([mine, other.columns], [sizes[i] for i in other.indices])
        found: NDArray[Any]
        if space <= MAX_DIRECT:
            found = np.bincount(others, other.weight, minlength=space)[code]
        elif len(others) == 0:
            found = np.zeros(len(code))
        else:
            order = np.argsort(others)
            place = np.minimum(np.searchsorted(others, code, sorter=order), len(others) - 1)
            there = others[order[place]] == code
            found = np.where(there, other.weight[order[place]], 0.0)
        kept = np.flatnonzero(found)
        columns = tuple(c[kept] for c in self.columns)
        return Relation(self.indices, columns, self.weight[kept] * found[kept])


def total(relations: Sequence[Relation], over: Collection[str], sizes: Mapping[str, int]) -> float:
    """Return the weight of the join of all relations over the indices ``over``.

    It is exact except for cycles of three relations with too many tuples, where the last one is
    assumed to be independent of the others.
    """
    having = {i for relation in relations for i in relation.indices}
    found = float(prod(sizes[i] for i in over if i not in having))
    found *= prod(float(r.weight.sum()) for r in relations if not r.indices)
    left = [r for r in relations if r.indices]
    while len(left) > 1 and found:
        # an index of only one relation is summed out first
        left = [r.onto({i for q in left if q is not r for i in q.indices}, sizes) for r in left]
        found *= prod(float(r.weight.sum()) for r in left if not r.indices)
        left = sorted((r for r in left if r.indices), key=lambda r: len(r.indices))
        if len(left) < 2:
            break
        inner = left[0]
        outer = next((r for r in left[1:] if set(inner.indices) <= set(r.indices)), None)
        if outer is not None:
            left = [r for r in left[1:] if r is not outer] + [outer.times(inner, sizes)]
            continue
        pair = _product(left[0], left[1], sizes)
        if pair is None:
            found *= float(left[0].weight.sum()) / prod(sizes[i] for i in left[0].indices)
            left = left[1:]
        else:
            left = [*left[2:], pair]
    return found * float(left[0].weight.sum()) if left else found


def _product(a: Relation, b: Relation, sizes: Mapping[str, int]) -> Relation | None:
    """Return the join of two relations, or None if it is too large."""
    shared = [i for i in a.indices if i in b.indices]
    columns = [tuple(r.columns[r.indices.index(i)] for i in shared) for r in (a, b)]
    (in_a, in_b), _ = _codes(columns, [sizes[i] for i in shared])
    order = np.argsort(in_b, kind="stable")
    begin = np.searchsorted(in_b, in_a, sorter=order)
    count = np.searchsorted(in_b, in_a, side="right", sorter=order) - begin
    if count.sum() > MAX_TUPLES:
        return None
    of_a = np.repeat(np.arange(len(in_a)), count)
    number = np.arange(len(of_a)) - (np.cumsum(count) - count)[of_a]
    of_b = order[begin[of_a] + number]
    rest = [n for n, i in enumerate(b.indices) if i not in shared]
    return Relation(
        (*a.indices, *(b.indices[n] for n in rest)),
        (*(c[of_a] for c in a.columns), *(b.columns[n][of_b] for n in rest)),
        a.weight[of_a] * b.weight[of_b],
    )


def _codes(sets: Sequence[Columns], sizes: Sequence[int]) -> tuple[list[NDArray[np.int64]], int]:
    """Return a number for each tuple of each set, equal for equal tuples, and an upper bound of
    these numbers.
    """
    space = prod(sizes)
    if space < 1 << 62:
        found = []
        for columns in sets:
            code = np.zeros(len(columns[0]), np.int64)
            for column, size in zip(columns, sizes, strict=True):
                code = code * size + column
            found.append(code)
        return found, space
    rows = [np.stack(columns, axis=1) for columns in sets]
    _, inverse = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    ends = np.cumsum([len(r) for r in rows])[:-1]
    return np.split(inverse.reshape(-1), ends), len(inverse)
