"""A tensor that is not computed yet, with its elements, or the first of them, in another shape.

Where its dense levels are in the order of the modes, that is the same memory: nothing is moved.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import Tensor, sparse_levels
from .expected import Coordinates, Expected, Layout, in_order
from .operand import Operand


def row_major(order: int) -> Layout:
    """Return dense levels in the order of the modes."""
    return in_order((DENSE,) * order)


class Reshaped(Expected):
    """An operand in another shape, of as many elements or of fewer: then of the first ones.

    Attributes
    ----------
    base : Expected
        What is reshaped.
    """

    def __init__(self, name: str, base: Expected, shape: Sequence[int]) -> None:
        assert prod(shape) <= prod(base.shape)
        alike = base.given == row_major(len(base.shape))
        super().__init__(
            name,
            shape,
            base.dtype,
            (lambda: self._moved(base)) if base.sparse else None,
            layout=row_major(len(shape)) if alike else None,
            wide=base.wide,
            bounds=base.bounds,
            in_memory=alike and base.in_memory,
        )
        self.base = base

    def apply(self, base: Operand) -> Operand:
        """Return another operand in this shape."""
        source = base.source
        if not isinstance(source, Tensor):
            first = source.reshape(-1)[: prod(self.shape)]
            return Operand(self.name, first.reshape(self.shape), self.dtype)
        rank = len(self.shape)
        if (source.levels, source.mode_order) == row_major(source.order):
            levels, none = row_major(rank)[0], [None] * rank
            values = source.values[: prod(self.shape)]
            found = Tensor(self.shape, levels, none, values, dtype=source.dtype, wide=source.wide)
        else:
            by_mode, stored = source.stored_entries()
            kept = _first(by_mode, base.shape, self.shape)
            found = Tensor.from_stored(
                self.shape,
                sparse_levels(rank) if COMPRESSED in source.levels else (DENSE,) * rank,
                moved([c[kept] for c in by_mode], base.shape, self.shape),
                stored[kept],
                dtype=source.dtype,
                wide=source.wide,
            )
        return Operand(self.name, found, self.dtype)

    def _moved(self, base: Expected) -> Coordinates:
        found = base.coordinates()
        assert found is not None
        kept = _first(found, base.shape, self.shape)
        return moved([c[kept] for c in found], base.shape, self.shape)


def _first(by_mode: Coordinates, old: Sequence[int], new: Sequence[int]) -> NDArray[np.bool_]:
    """Return which entries are among the first elements, of which another shape has as many."""
    if not old:
        return np.ones(1, np.bool_)
    return np.ravel_multi_index([np.asarray(c, np.int64) for c in by_mode], old) < prod(new)


def moved(by_mode: Coordinates, old: Sequence[int], new: Sequence[int]) -> Coordinates:
    """Return the coordinates, by mode, of entries of a tensor in another shape."""
    if not old:
        return [np.zeros(1, np.int64) for _ in new]
    flat = np.ravel_multi_index([np.asarray(c, np.int64) for c in by_mode], old)
    return list(np.unravel_index(flat, new)) if new else []
