"""Hyper-sparse statements: coordinates of an index that no sparse operand stores are left out, and
the others are numbered anew, in the same order.

A matrix of 2^20 rows with 1,000 nonzeros has at most 1,000 rows that are not empty. With these
alone its position table and the result's have 1,000 entries, a block holds up to 16 of its columns,
not one, and a result row fits into the accumulator's window. To find which operands have a
coordinate in common is left to the chip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..formats import numbers, panels
from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import Tensor, sparse_levels
from ..named import named
from .notation import Access, Binary, Expression, Negate, Statement, named_apart
from .operand import Operand
from .semiring import Semiring

MIN_SIZE = 1024
"""Size from which an index is looked at."""

SHARE = 0.5
"""Stored entries of a matrix or tensor for each coordinate of an index, at most, for it to be
hyper-sparse."""

Coordinates = NDArray[np.int64]


@named
@dataclass(frozen=True, eq=False)
class Compaction:
    """Indices with fewer coordinates.

    Attributes
    ----------
    statement : Statement
        With a name for each access: of one tensor, other coordinates may be kept at each.
    named : mapping of str to Operand
        Its operands.
    kept : mapping of str to NDArray
        The coordinates of each compacted index that are left, ascending.
    """

    statement: Statement
    named: dict[str, Operand]
    kept: Mapping[str, Coordinates]

    def expand(
        self, result: Tensor, shape: Sequence[int], levels: Sequence[str], semiring: Semiring
    ) -> Tensor:
        """Return the result with all coordinates; what is not computed is the semiring's zero."""
        indices = self.statement.result.indices
        if not self.kept.keys() & set(indices):
            return result
        if COMPRESSED in levels:
            by_mode, stored = result.stored_entries()
            return Tensor.from_stored(
                shape,
                levels,
                [
                    self.kept[i][c] if i in self.kept else c
                    for i, c in zip(indices, by_mode, strict=True)
                ],
                stored,
                dtype=result.dtype,
                wide=result.wide,
            )
        assert result.dtype is not None
        kind = numbers.storage_dtype(result.dtype, result.wide)
        whole = np.zeros(shape, kind)
        if semiring.zero != 0:
            whole.view(np.uint32)[...] = semiring.zero_bits(result.dtype)
        places = [self.kept.get(i, np.arange(size)) for i, size in zip(indices, shape, strict=True)]
        flat = result.convert((DENSE,) * len(shape)).values
        whole[np.ix_(*places)] = flat.reshape([len(p) for p in places])
        none = [None] * len(shape)
        return Tensor(
            shape,
            (DENSE,) * len(shape),
            none,
            whole.reshape(-1),
            dtype=result.dtype,
            wide=result.wide,
        )


def find_compaction(
    statement: Statement, named: Mapping[str, Operand], sizes: Mapping[str, int]
) -> Compaction | None:
    """Return the compaction of a statement, None where no index has few enough coordinates left.

    An index is compacted where a matrix or tensor with it is hyper-sparse (of a vector the chip
    reads no more than its entries, but they may be in several panels), and half of its coordinates
    are left at most; not where a view looks at it, nor where a `Tensor` with it, which is taken as
    it is, has more entries than that.
    """
    kept: dict[str, Coordinates] = {}
    for index in statement.indices:
        among = [a for a in statement.accesses if index in a.indices]
        few = SHARE * sizes[index]
        if sizes[index] < MIN_SIZE or any(a.places is not None for a in among):
            continue
        operands = [named[a.name] for a in among]
        least = 1 if sizes[index] > panels.PANEL else 2
        if not any(o.sparse and len(o.shape) >= least and o.nnz <= few for o in operands):
            continue
        if any(isinstance(o.source, Tensor) and o.sparse and o.nnz > few for o in operands):
            continue
        found = _present(statement, named, index)
        if found is not None and len(found) <= few:
            # one is left of an index of which nothing is: no size is 0 that was not
            kept[index] = found if len(found) else np.zeros(1, np.int64)
    if not kept:
        return None
    renamed, of = named_apart(statement)
    made: dict[tuple[Any, ...], Operand] = {}
    found_named: dict[str, Operand] = {}
    for access in renamed.accesses:
        operand = named[of[access.name]]
        key = (id(operand.source), *(i if i in kept else None for i in access.indices))
        if key not in made:
            made[key] = _taken(operand, access, kept)
            made[key].notes = tuple(
                f"index {i}: {len(kept[i]):,} of {sizes[i]:,} coordinates, those that are stored"
                for i in access.indices
                if i in kept
            )
        found_named[access.name] = made[key]
    return Compaction(renamed, found_named, kept)


def _present(statement: Statement, named: Mapping[str, Operand], index: str) -> Coordinates | None:
    """Return the coordinates of an index that the sparse operands store; None where there can be a
    term at all others as well.
    """

    def of(access: Access) -> Coordinates | None:
        operand = named[access.name]
        if index not in access.indices or not operand.sparse:
            return None
        by_mode = operand.coordinates()
        assert by_mode is not None
        return np.unique(by_mode[access.indices.index(index)])

    def walk(e: Expression) -> Coordinates | None:
        match e:
            case Access():
                return of(e)
            case Negate(term):
                return walk(term)
            case Binary("*", left, right):
                return _both(walk(left), walk(right))
            case Binary(_, left, right):
                one, other = walk(left), walk(right)
                return None if one is None or other is None else np.union1d(one, other)

    found = walk(statement.expression)
    if statement.mask is not None and not statement.mask.complement:
        found = _both(found, of(statement.mask.access))
    return found


def _both(one: Coordinates | None, other: Coordinates | None) -> Coordinates | None:
    """Return the coordinates of two factors."""
    if one is None or other is None:
        return other if one is None else one
    return np.union1d(one, other)


def _taken(operand: Operand, access: Access, kept: Mapping[str, Coordinates]) -> Operand:
    """Return an operand with the kept coordinates alone."""
    source = operand.source
    places = [kept.get(i) for i in access.indices]
    if all(p is None for p in places):
        return operand
    shape = [n if p is None else len(p) for n, p in zip(operand.shape, places, strict=True)]
    if not operand.sparse:
        if isinstance(source, Tensor):
            by_level = source.values[: source.spans[0]].reshape(source.sizes)
            values = _gathered(by_level, [places[m] for m in source.mode_order])
            return operand.with_source(
                Tensor(
                    shape,
                    source.levels,
                    source.arrays,
                    values.reshape(-1),
                    dtype=source.dtype,
                    wide=source.wide,
                    mode_order=source.mode_order,
                )
            )
        return operand.with_source(_gathered(source, places))
    by_mode = operand.coordinates()
    assert by_mode is not None
    there = np.ones(len(by_mode[0]), np.bool_)
    found = []
    for coordinate, place in zip(by_mode, places, strict=True):
        if place is not None:
            number = np.minimum(np.searchsorted(place, coordinate), len(place) - 1)
            there &= place[number] == coordinate
            coordinate = number
        found.append(coordinate)
    found = [c[there] for c in found]
    if isinstance(source, Tensor):
        _, stored = source.stored_entries()
        return operand.with_source(
            Tensor.from_stored(
                shape,
                sparse_levels(len(shape)),
                found,
                stored[there],
                dtype=source.dtype,
                wide=source.wide,
            )
        )
    return operand.with_source(sp.coo_array((source.tocoo().data[there], tuple(found)), shape))


def _gathered(array: NDArray[Any], places: Sequence[Coordinates | None]) -> NDArray[Any]:
    """Return the array with some of the coordinates of its axes."""
    return reduce(
        lambda a, at: a if at[1] is None else np.take(a, at[1], axis=at[0]),
        enumerate(places),
        array,
    )
