"""Slices: a statement restricted to some coordinates of an index, for fewer loops or a smaller
result.

A statement with too many loops for one kernel, or whose result does not fit the accumulator, is
computed in slices; the host slices the operands and concatenates the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..formats.pack import COMPRESSED, DENSE
from ..formats.rows import take_rows
from ..formats.tensor import Tensor, sparse_levels
from ..named import named
from .expected import Expected, Layout
from .notation import Access, Place, Statement, written_place
from .operand import Operand
from .view import View

MAX_SLICES = 64
"""Maximum number of slices of one coordinate each."""


@named
@dataclass(frozen=True)
class Slice:
    """Coordinates ``[start, stop)`` of an index; ``gone``: a single one, and the index is
    removed.
    """

    index: str
    start: int
    stop: int
    gone: bool = False

    def __str__(self) -> str:
        last = "" if self.gone else f" to {self.stop - 1:,}"
        return f"{self.index}, {self.start:,}{last}"

    def statement(self, statement: Statement) -> Statement:
        """Return the statement of the slice, of operands that are no views of sparse ones."""
        return statement.with_accesses(self.access)

    def access(self, access: Access, operand: Operand | None = None) -> Access:
        """Return the access to the slice of an operand; a view gets another offset, unless what it
        views is sliced.
        """
        if self.index not in access.indices or self._viewed_mode(operand) is not None:
            return access
        left = tuple(i for i in access.indices if not (self.gone and i == self.index))
        if access.places is None:
            return replace(access, indices=left)
        places = []
        for place in access.places:
            factor = dict(place.terms).get(self.index, 0)
            terms = tuple(t for t in place.terms if not (self.gone and t[0] == self.index))
            places.append(Place(terms, place.offset + factor * self.start))
        name = f"{access.tensor}[{','.join(map(written_place, places))}]"
        return Access(name, left, tuple(places))

    def operand(self, access: Access, operand: Operand, sizes: Mapping[str, int]) -> Operand:
        """Return the operand's slice; ``sizes`` are those of the whole statement's indices."""
        if self.index not in access.indices:
            return operand
        (found,) = slice_operand(operand, access, [self], sizes)
        return found

    def _viewed_mode(self, operand: Operand | None) -> int | None:
        """Return the mode of what is viewed that is sliced for the slice of a view: one of a sparse
        operand at which the index stands alone, since with an offset its level would be dense.
        """
        if not isinstance(operand, View) or not operand.sparse or self.gone:
            return None
        places = operand.access.places or ()
        modes = [m for m, place in enumerate(places) if self.index in dict(place.terms)]
        return modes[0] if len(modes) == 1 and places[modes[0]].plain == self.index else None

    def viewed(self, access: Access, base: Operand) -> Operand:
        """Return what the slice of a view of a sparse operand shows (`_viewed_mode`)."""
        modes = [m for m, place in enumerate(access.places or ()) if place.plain == self.index]
        (found,) = _cut(base, modes[0], [self])
        return found

    def levels(self, result: Access, levels: Sequence[str]) -> tuple[str, ...]:
        """Return the levels of the slice's result, compressed where those of the whole are."""
        rank = len(self.access(result).indices)
        return sparse_levels(rank) if COMPRESSED in levels else (DENSE,) * rank

    def _layout(self, levels: Sequence[str], mode_order: Sequence[int], mode: int) -> Layout:
        """Return levels and mode order of the slice along a mode of a tensor with these."""
        left = [
            (kind, m - (self.gone and m > mode))
            for kind, m in zip(levels, mode_order, strict=True)
            if not (self.gone and m == mode)
        ]
        return tuple(kind for kind, _ in left), tuple(m for _, m in left)

    def _shape(self, operand: Operand, mode: int) -> list[int]:
        """Return the shape of an operand's slice along a mode."""
        shape = list(operand.shape)
        shape[mode] = self.stop - self.start
        if self.gone:
            del shape[mode]
        return shape

    def _moved(
        self, by_mode: Sequence[NDArray[np.int64]], mode: int, there: NDArray
    ) -> list[NDArray[np.int64]]:
        """Return the coordinates of those entries that are in the slice along a mode."""
        found = [c[there] - (self.start if m == mode else 0) for m, c in enumerate(by_mode)]
        if self.gone:
            del found[mode]
        return found


def slice_operand(
    operand: Operand, access: Access, slices: Sequence[Slice], sizes: Mapping[str, int]
) -> list[Operand]:
    """Return slices of an operand along one index, which do not overlap and ascend.

    Parameters
    ----------
    sizes : mapping of str to int
        Of the whole statement's indices.
    """
    index = slices[0].index
    if index not in access.indices:
        return [operand] * len(slices)
    if not isinstance(operand, View):
        return _cut(operand, access.indices.index(index), slices)
    bases = [operand.base] * len(slices)
    mode = slices[0]._viewed_mode(operand)
    if mode is not None:
        bases = _cut(operand.base, mode, slices)
    return [
        View(base, part.access(access, operand), {**sizes, index: part.stop - part.start})
        for base, part in zip(bases, slices, strict=True)
    ]


def _cut(operand: Operand, mode: int, slices: Sequence[Slice]) -> list[Operand]:
    source: Any = operand.source
    if isinstance(operand, Expected):
        computed = operand.panels_of(mode, [(part.start, part.stop) for part in slices])
        if computed is not None and not slices[0].gone:
            return list(computed)
        return [_cut_expected(operand, mode, part) for part in slices]
    if not (isinstance(source, Tensor) or sp.issparse(source)):
        parts = [source[(slice(None),) * mode + (slice(s.start, s.stop),)] for s in slices]
        return [
            operand.with_source(array.reshape(part._shape(operand, mode)))
            for array, part in zip(parts, slices, strict=True)
        ]
    if isinstance(source, Tensor) and not slices[0].gone:
        uncopied = _uncopied(source, mode, slices)
        if uncopied is not None:
            return [operand.with_source(part) for part in uncopied]
    by_mode: Sequence[NDArray[np.int64]]
    if isinstance(source, Tensor):
        by_mode, values = source.stored_entries()
    else:
        coo = source.tocoo()
        by_mode, values = [np.asarray(c, np.int64) for c in coo.coords], coo.data
    found = []
    for part, there in zip(slices, _members(by_mode[mode], slices), strict=True):
        shape, columns = part._shape(operand, mode), part._moved(by_mode, mode, there)
        if isinstance(source, Tensor):
            levels, modes = part._layout(source.levels, source.mode_order, mode)
            made: Any = Tensor.from_stored(
                shape, levels, columns, values[there],
                dtype=source.dtype, wide=source.wide, mode_order=modes,
            )  # fmt: skip
        elif columns:
            made = sp.coo_array((values[there], tuple(columns)), shape)
        else:
            made = values[there].sum()
        found.append(operand.with_source(made))
    return found


def _uncopied(source: Tensor, mode: int, slices: Sequence[Slice]) -> list[Tensor] | None:
    """Return slices of a tensor's arrays, where its levels allow it: ranges of its outermost mode,
    if that is dense, and of any if all are.
    """
    if mode == source.mode_order[0]:
        found = [take_rows(source, part.start, part.stop) for part in slices]
        return None if None in found else found  # type: ignore[return-value]
    if COMPRESSED in source.levels:
        return None
    values = source.dense_values().transpose(source.mode_order)
    along = (slice(None),) * source.mode_order.index(mode)
    parts = [values[(*along, slice(part.start, part.stop))] for part in slices]
    shapes = [
        [part.stop - part.start if m == mode else n for m, n in enumerate(source.shape)]
        for part in slices
    ]
    none = [None] * source.order
    return [
        Tensor(
            shape, source.levels, none, np.ascontiguousarray(part).reshape(-1),
            dtype=source.dtype, wide=source.wide, mode_order=source.mode_order,
        )
        for shape, part in zip(shapes, parts, strict=True)
    ]  # fmt: skip


def _cut_expected(operand: Expected, mode: int, part: Slice) -> Operand:
    def moved(by_mode: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        there = (by_mode[mode] >= part.start) & (by_mode[mode] < part.stop)
        return part._moved(by_mode, mode, there)

    layout = None if operand.given is None else part._layout(*operand.given, mode)
    return operand.reshaped(part._shape(operand, mode), moved, layout)


def _members(coordinate: NDArray[np.int64], slices: Sequence[Slice]) -> list[NDArray]:
    """Return which of some coordinates are in each slice."""
    if len(slices) == 1:
        return [(coordinate >= slices[0].start) & (coordinate < slices[0].stop)]
    number = np.searchsorted([part.start for part in slices], coordinate, side="right")
    number[coordinate >= slices[-1].stop] = 0
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(1, len(slices) + 2))
    return [order[a:b] for a, b in pairwise(bounds)]


def join(
    statement: Statement,
    sizes: Mapping[str, int],
    levels: Sequence[str],
    slices: Sequence[tuple[Slice, Tensor]],
    zero: int = 0,
) -> Tensor:
    """Return the result of a statement from those of its slices along an index of the result.

    Parameters
    ----------
    zero : int
        The value of a dense result in slices that are not given, as bits.
    """
    result = statement.result.indices
    shape = [sizes[i] for i in result]
    at = result.index(slices[0][0].index)
    first = slices[0][1]
    if COMPRESSED not in levels:
        whole = np.zeros(shape, first.values.dtype)
        if zero:
            whole.view(np.uint32)[...] = zero
        for part, tensor in slices:
            place = part.start if part.gone else slice(part.start, part.stop)
            whole[(slice(None),) * at + (place,)] = tensor.dense_values()
        return Tensor(
            shape, levels, [None] * len(shape), whole.reshape(-1),
            dtype=first.dtype, wide=first.wide,
        )  # fmt: skip
    columns: list[list[NDArray[np.int64]]] = []
    stored = []
    for part, tensor in slices:
        by_mode, values = tensor.stored_entries()
        if part.gone:
            by_mode.insert(at, np.full(len(values), part.start))
        else:
            by_mode[at] = by_mode[at] + part.start
        columns.append(by_mode)
        stored.append(values)
    return Tensor.from_stored(
        shape,
        sparse_levels(len(result)),
        [np.concatenate(some) for some in zip(*columns, strict=True)],
        np.concatenate(stored),
        dtype=first.dtype,
        wide=first.wide,
    ).convert(levels)
