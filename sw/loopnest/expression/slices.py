"""Slices: a statement restricted to some coordinates of an index, for fewer loops or a smaller
result.

A statement with too many loops for one kernel, or whose result does not fit the accumulator, is
computed in slices; the host slices the operands and concatenates the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..formats.pack import COMPRESSED, DENSE
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

    def statement(self, statement: Statement) -> Statement:
        """Return the statement of the slice."""
        return statement.with_accesses(self.access)

    def access(self, access: Access) -> Access:
        """Return the access; a view gets another offset."""
        if self.index not in access.indices:
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
        if isinstance(operand, View):
            cut = {**sizes, self.index: self.stop - self.start}
            return View(operand.base, self.access(access), cut)
        return self._cut(operand, access.indices.index(self.index))

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

    def _cut(self, operand: Operand, mode: int) -> Operand:
        source: Any = operand.source
        shape = list(operand.shape)
        shape[mode] = self.stop - self.start
        if self.gone:
            del shape[mode]

        def entries(by_mode: Sequence[NDArray[np.int64]]) -> tuple[NDArray, list[NDArray]]:
            """Return which entries are in the slice, and their coordinates."""
            there = (by_mode[mode] >= self.start) & (by_mode[mode] < self.stop)
            found = [c[there] - (self.start if m == mode else 0) for m, c in enumerate(by_mode)]
            if self.gone:
                del found[mode]
            return there, found

        if isinstance(operand, Expected):
            layout = None if operand.given is None else self._layout(*operand.given, mode)
            return operand.reshaped(shape, lambda by_mode: entries(by_mode)[1], layout)
        if isinstance(source, Tensor):
            by_mode, stored = source.stored_entries()
            there, found = entries(by_mode)
            levels, modes = self._layout(source.levels, source.mode_order, mode)
            source = Tensor.from_stored(
                shape, levels, found, stored[there],
                dtype=source.dtype, wide=source.wide, mode_order=modes,
            )  # fmt: skip
        elif sp.issparse(source):
            coo = source.tocoo()
            there, found = entries([np.asarray(c, np.int64) for c in coo.coords])
            if found:
                source = sp.coo_array((coo.data[there], tuple(found)), shape)
            else:
                source = coo.data[there].sum()
        else:
            source = source[(slice(None),) * mode + (slice(self.start, self.stop),)]
            source = source.reshape(shape)
        return Operand(operand.name, source, operand.dtype)


def join(
    statement: Statement,
    sizes: Mapping[str, int],
    levels: Sequence[str],
    slices: Sequence[tuple[Slice, Tensor]],
) -> Tensor:
    """Return the result of a statement from those of its slices along an index of the result."""
    result = statement.result.indices
    at = result.index(slices[0][0].index)
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
    first = slices[0][1]
    return Tensor.from_stored(
        [sizes[i] for i in result],
        sparse_levels(len(result)) if COMPRESSED in levels else (DENSE,) * len(result),
        [np.concatenate(some) for some in zip(*columns, strict=True)],
        np.concatenate(stored),
        dtype=first.dtype,
        wide=first.wide,
    ).convert(levels)
