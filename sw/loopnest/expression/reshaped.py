"""A tensor that is not computed yet, with its elements in another shape.

Where its dense levels are in the order of the modes, that is the same memory: nothing is moved.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from ..formats.pack import COMPRESSED, DENSE
from ..formats.tensor import Tensor, sparse_levels
from .expected import Coordinates, Expected, Layout, in_order
from .operand import Operand


def row_major(order: int) -> Layout:
    """Return dense levels in the order of the modes."""
    return in_order((DENSE,) * order)


class Reshaped(Expected):
    """An operand in another shape of as many elements.

    Attributes
    ----------
    base : Expected
        What is reshaped.
    """

    def __init__(self, name: str, base: Expected, shape: Sequence[int]) -> None:
        assert prod(shape) == prod(base.shape)
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
            return Operand(self.name, source.reshape(self.shape), self.dtype)
        rank = len(self.shape)
        if (source.levels, source.mode_order) == row_major(source.order):
            levels, none = row_major(rank)[0], [None] * rank
            found = Tensor(
                self.shape, levels, none, source.values, dtype=source.dtype, wide=source.wide
            )
        else:
            by_mode, stored = source.stored_entries()
            found = Tensor.from_stored(
                self.shape,
                sparse_levels(rank) if COMPRESSED in source.levels else (DENSE,) * rank,
                moved(by_mode, base.shape, self.shape),
                stored,
                dtype=source.dtype,
                wide=source.wide,
            )
        return Operand(self.name, found, self.dtype)

    def _moved(self, base: Expected) -> Coordinates:
        found = base.coordinates()
        assert found is not None
        return moved(found, base.shape, self.shape)


class LastRows(Reshaped):
    """The last rows of a dense result, whose levels are in the order of the modes."""

    def __init__(self, base: Expected, rows: int) -> None:
        assert base.given == row_major(len(base.shape)) and rows <= base.shape[0]
        Expected.__init__(
            self,
            base.name,
            (rows, *base.shape[1:]),
            base.dtype,
            None,
            layout=base.given,
            wide=base.wide,
            bounds=base.bounds,
            in_memory=base.in_memory,
        )
        self.base = base

    @property
    def skipped(self) -> int:
        """The number of elements in front of them."""
        return prod(self.base.shape) - prod(self.shape)

    def apply(self, base: Operand) -> Operand:
        """Return these rows of another operand."""
        tensor = base.source
        assert isinstance(tensor, Tensor)
        rows = tensor.dense_values()[base.shape[0] - self.shape[0] :]
        levels, none = row_major(tensor.order)[0], [None] * tensor.order
        found = Tensor(
            self.shape, levels, none, rows.reshape(-1), dtype=tensor.dtype, wide=tensor.wide
        )
        return Operand(self.name, found, self.dtype)


def moved(by_mode: Coordinates, old: Sequence[int], new: Sequence[int]) -> Coordinates:
    """Return the coordinates, by mode, of entries of a tensor in another shape."""
    if not old:
        return [np.zeros(1, np.int64) for _ in new]
    flat = np.ravel_multi_index([np.asarray(c, np.int64) for c in by_mode], old)
    return list(np.unravel_index(flat, new)) if new else []
