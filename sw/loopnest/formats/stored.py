"""A tensor as it is stored: levels, each dense or compressed, over packed values.

Positions follow one rule for every mix of levels. With ``span[l]`` the product of the sizes of the
dense levels that start at level l (1 in front of a compressed level, and behind the last one),

* the root is position 0 in front of level 0;
* a dense level of size n takes a position to ``position + coordinate * span[l + 1]``;
* a compressed level takes it as the number of a fiber in its position table; the fiber's k-th
  coordinate has ``first child + k * span[l + 1]``, first children being in that unit too;
* what is behind the last level is the position of a value.

So row i of ``"dense,compressed"`` is fiber i, and element (i, j) of ``"dense,dense"`` is value
``i * columns + j``. A cell of the chip uses ``span[l + 1]`` as its step.

A compressed level wider than a block word numbers is stored as two (`panels`).
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import NumberFormat

from ..arguments import check_mode_order, check_shape, flag, sequence
from ..lazy import lazy
from . import numbers, pack, panels
from . import values as values_of
from .arraylike import ArrayMethods
from .check import check_levels
from .levels import MAX_ORDER, Levels, parse_levels
from .pack import COMPRESSED, DENSE, CompressedLevel
from .sources import dense_array


class StoredTensor(ArrayMethods):
    """What a `Tensor` holds, and its entries; its parameters are those of `Tensor`."""

    def __init__(
        self,
        shape: Sequence[int],
        levels: Levels,
        arrays: Sequence[CompressedLevel | None],
        values: NDArray,
        *,
        dtype: str | NumberFormat | None = NumberFormat.BF16,
        wide: bool = False,
        mode_order: Sequence[int] | None = None,
    ) -> None:
        self.shape = check_shape(shape, MAX_ORDER)
        self.levels = parse_levels(levels, len(self.shape))
        self.mode_order = check_mode_order(mode_order, len(self.shape))
        self.arrays = sequence("arrays", arrays, "a CompressedLevel or None for each level")
        self.dtype = values_of.number_format(dtype)
        self.wide = flag("wide", wide)
        self.values = dense_array(values)
        expected = values_of.storage_dtypes(self.dtype, self.wide)
        if self.values.dtype not in expected or self.values.ndim != 1:
            raise TypeError(
                f"values of type {self.values.dtype} and {self.values.ndim} dimensions: "
                f"expected one dimension of {' or '.join(map(str, expected))}"
            )
        self.levels_chosen = True
        self._bound: dict[NumberFormat, Any] = {}
        sizes, levels = panels.divided(self.sizes, self.levels)
        if len(self.arrays) != len(levels):
            raise ValueError(f"{len(self.arrays)} level arrays: expected {len(levels)}")
        for l, (kind, array) in enumerate(zip(levels, self.arrays, strict=True)):
            if array is not None and not isinstance(array, CompressedLevel):
                raise TypeError(
                    f"level {l}: {type(array).__name__}: expected a CompressedLevel or None"
                )
            if (kind == DENSE) != (array is None):
                raise ValueError(f"level {l} is {kind}: expected {'no' * (kind == DENSE)} arrays")
        check_levels(sizes, levels, self.arrays, len(self.values))
        if len(levels) > self.order:
            self._check_last_panels()

    @classmethod
    def unchecked(
        cls,
        shape: tuple[int, ...],
        levels: tuple[str, ...],
        arrays: list[CompressedLevel | None],
        values: NDArray,
        *,
        dtype: NumberFormat | None,
        wide: bool,
        mode_order: tuple[int, ...],
    ) -> Self:
        """Return a tensor of arrays that are known to be consistent, without checking them."""
        found = object.__new__(cls)
        found.shape, found.levels, found.mode_order = shape, levels, mode_order
        found.arrays, found.values = tuple(arrays), values
        found.dtype, found.wide, found.levels_chosen = dtype, wide, True
        found._bound = {}
        return found

    @property
    def order(self) -> int:
        """Number of modes."""
        return len(self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of each level."""
        return tuple(self.shape[m] for m in self.mode_order)

    @property
    def spans(self) -> list[int]:
        """Number of positions of a node in front of each level, and after the last."""
        return pack.spans(self.sizes, self.levels)

    @lazy
    def nnz(self) -> int:
        """Stored entries; a dense level stores all of its coordinates."""
        return len(self._decoded()[1])

    @property
    def nbytes(self) -> int:
        """Bytes of tables, block words and values."""
        levels = [a for a in self.arrays if a is not None]
        return self.values.nbytes + sum(a.table.nbytes + a.words.nbytes for a in levels)

    def __repr__(self) -> str:
        names = {"bf16": ("bf16", "fp32"), "int8": ("int8", "int32")}
        number = f"{self.values.dtype} values{', wide' * self.wide}"
        if self.dtype is not None:
            number = names[self.dtype.value][self.wide]
        stored = (
            "" if self.mode_order == tuple(range(self.order)) else f", stored {self.mode_order}"
        )
        return f"Tensor({self.shape}, {','.join(self.levels)!r}, {number}{stored})"

    def to_coo(self) -> tuple[list[NDArray[np.int64]], NDArray]:
        """Return coordinates, one array for each mode, and values, sorted in the levels' order.

        Zeros that are stored only because the innermost level is dense are omitted.
        """
        by_level, position = self._decoded()
        values = numbers.decode(self.values[position])
        if self.levels and self.levels[-1] == DENSE:
            kept = values != 0
            by_level, values = [c[kept] for c in by_level], values[kept]
        return [by_level[l] for l in np.argsort(self.mode_order)], values

    def to_scipy(self) -> sp.csr_array | sp.coo_array:
        """Return a `csr_array` for a matrix, a `coo_array` for other orders.

        Raises
        ------
        ValueError
            For a tensor of order 0.
        """
        coordinates, values = self.to_coo()
        if not self.shape:
            raise ValueError("a tensor of order 0 has no sparse array: use to_dense")
        coo = sp.coo_array((values, tuple(coordinates)), shape=self.shape)
        if self.order != 2:
            return coo
        matrix = coo.tocsr()
        matrix.sort_indices()
        return matrix

    def to_dense(self) -> NDArray:
        """Return an array of the tensor's shape; absent entries are 0."""
        if COMPRESSED not in self.levels:
            return np.array(numbers.decode(self.dense_values()), order="C")
        coordinates, values = self.to_coo()
        dense = np.zeros(self.shape, values.dtype)
        dense[tuple(coordinates)] = values
        return dense

    def dense_values(self) -> NDArray:
        """Return the values as stored, of a tensor with dense levels, as an array of its shape."""
        whole = self.values[: self.spans[0]].reshape(self.sizes)
        return whole.transpose(np.argsort(self.mode_order))

    def stored_entries(self) -> tuple[list[NDArray[np.int64]], NDArray]:
        """Return the coordinates by mode of all stored entries, and the values as stored."""
        by_level, position = self._decoded()
        return [by_level[l] for l in np.argsort(self.mode_order)], self.values[position]

    def _locate(self, position: int) -> list[int]:
        """Return the index of the value at a position."""
        by_level, positions = self._decoded()
        entry = int(np.argmax(positions == position))
        return [int(by_level[level][entry]) for level in np.argsort(self.mode_order)]

    def _decoded(self) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Return the coordinates by level of all stored entries, and their values' positions, in
        the order of the levels.
        """
        stored_as = panels.divided(self.sizes, self.levels)
        columns, position = pack.decode(*stored_as, self.arrays)
        by_level, at = panels.undivided(columns, self.sizes, self.levels)
        return by_level, position if at is None else position[at]

    def _check_last_panels(self) -> None:
        """Check what the stored levels' sizes leave open: coordinates in the last panels."""
        by_level, _ = self._decoded()
        for l in panels.wide_levels(self.sizes, self.levels):
            beyond = by_level[l] >= self.sizes[l]
            if beyond.any():
                raise ValueError(
                    f"level {l}: coordinate {by_level[l][np.argmax(beyond)]}: expected 0 to "
                    f"{self.sizes[l] - 1}"
                )
