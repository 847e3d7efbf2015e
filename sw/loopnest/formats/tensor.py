"""The runtime's tensor: packs arrays into levels over values (`stored`)."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import NumberFormat

from ..arguments import check_coordinates, check_memory, check_mode_order, check_shape
from . import numbers, pack, panels
from . import values as values_of
from .entries import order_of, sorted_unique
from .levels import MAX_ORDER, Levels, parse_levels, sparse_levels
from .pack import COMPRESSED, DENSE
from .sources import as_array, dense_array
from .stored import StoredTensor

INSTEAD = "use compressed levels"
"""Advice for a tensor that is too large."""


class Tensor(StoredTensor):
    """A tensor in the chip's format. Treat it as immutable.

    Parameters
    ----------
    shape : sequence of int
        Size of each mode, up to 2^32.
    levels : str or sequence of str
        ``"dense"`` or ``"compressed"`` for each level, outermost first.
    arrays : sequence of CompressedLevel or None
        Position table and block words of each level; None for a dense one. Compressed levels of
        more than 2^20 coordinates have two, the first ones in front (`panels`).
    values : NDArray
        Stored values: uint16 (bf16), float32, int8 or int32; of a tensor without a format, int64,
        uint64, float64 or longdouble.
    dtype : str or NumberFormat or None
        ``"bf16"`` or ``"int8"``. None: the format is that of each chip that uses the tensor.
    wide : bool
        Whether values are fp32 or int32.
    mode_order : sequence of int, optional
        The mode that each level stores; ``(1, 0)`` stores a matrix by columns.

    Attributes
    ----------
    levels_chosen : bool
        Whether the user chose the levels. Otherwise a chip may store the tensor without its zeros.

    Raises
    ------
    ValueError
        If the arrays contradict each other; the message says where (`check.check_levels`).
    TypeError
        If the type of the values does not match ``dtype`` and ``wide``, or a level's arrays are not
        of uint32.
    """

    @classmethod
    def from_coo(
        cls,
        coordinates: Sequence[ArrayLike],
        values: ArrayLike,
        shape: Sequence[int],
        *,
        levels: Levels | None = None,
        dtype: str | NumberFormat | None = None,
        wide: bool = False,
        mode_order: Sequence[int] | None = None,
    ) -> Self:
        """Pack coordinates, one array for each mode, in any order; repeated ones are summed.

        Explicit zeros stay stored. ``levels`` is by default dense outside, compressed inside.
        Without a ``dtype`` the values are kept as they are (`bound`).

        Raises
        ------
        ValueError
            For a coordinate outside the shape, or a value an int8 chip can't hold; the message
            names it and its index.
        TypeError
            For complex values, or coordinates that are not integers.
        """
        shape = check_shape(shape, MAX_ORDER)
        flat = dense_array(values).reshape(-1)
        columns = check_coordinates(coordinates, shape, len(flat))
        exact = numbers.summable(flat, lambda k: [c[k] for c in columns])
        modes = check_mode_order(mode_order, len(shape))
        by_level, exact = sorted_unique(
            [columns[m] for m in modes], exact, [shape[m] for m in modes]
        )
        number = values_of.number_format(dtype)
        back = np.argsort(modes)
        stored = values_of.encode(exact, number, wide, lambda k: [by_level[l][k] for l in back])
        kinds = sparse_levels(len(shape)) if levels is None else levels
        return cls._packed(shape, kinds, modes, by_level, stored, number, wide)

    @classmethod
    def from_dense(
        cls,
        array: ArrayLike,
        *,
        levels: Levels | None = None,
        dtype: str | NumberFormat | None = None,
        wide: bool = False,
        mode_order: Sequence[int] | None = None,
    ) -> Self:
        """Pack an array; compressed levels drop 0 and -0. ``levels`` is by default all dense, and a
        chip may then store the tensor without its zeros. Without a ``dtype`` the values are kept as
        they are (`bound`).
        """
        array = dense_array(array)
        shape = check_shape(array.shape, MAX_ORDER)
        kinds = parse_levels((DENSE,) * len(shape) if levels is None else levels, len(shape))
        modes = check_mode_order(mode_order, len(shape))
        if COMPRESSED in kinds:
            present = np.nonzero(array)
            return cls.from_coo(
                present, array[present], shape,
                levels=kinds, dtype=dtype, wide=wide, mode_order=modes,
            )  # fmt: skip
        number = values_of.number_format(dtype)
        nbytes = array.size * values_of.value_bytes(number, wide)
        check_memory("a dense tensor", shape, nbytes, INSTEAD)
        stored_shape = tuple(shape[m] for m in modes)

        def locate(k: int) -> Sequence[int]:
            by_level = np.unravel_index(k, stored_shape)
            return [int(by_level[l]) for l in np.argsort(modes)]

        exact = numbers.summable(array.transpose(modes).reshape(-1), locate)
        stored = values_of.encode(exact, number, wide, locate)
        none = [None] * len(shape)
        tensor = cls(shape, kinds, none, stored, dtype=number, wide=wide, mode_order=modes)
        tensor.levels_chosen = levels is not None
        return tensor

    @classmethod
    def from_scipy(
        cls,
        matrix: Any,
        *,
        levels: Levels | None = None,
        dtype: str | NumberFormat | None = None,
        wide: bool = False,
        mode_order: Sequence[int] | None = None,
    ) -> Self:
        """Pack a scipy.sparse array or matrix of any format. Duplicates are summed, explicit zeros
        kept, and the argument is left as it is. ``levels`` as for `from_coo`.

        Raises
        ------
        TypeError
            For what is not a scipy.sparse array, or for complex values.
        ValueError
            If its arrays contradict each other, or for a value an int8 chip can't hold.
        """
        if not sp.issparse(matrix):
            raise TypeError(f"{type(matrix).__name__}: expected a scipy.sparse array")
        coo = as_array(matrix).tocoo()
        return cls.from_coo(
            coo.coords, coo.data, coo.shape,
            levels=levels, dtype=dtype, wide=wide, mode_order=mode_order,
        )  # fmt: skip

    @property
    def T(self) -> "Tensor":  # noqa: N802
        """The tensor with its modes reversed, of the same arrays."""
        modes = [self.order - 1 - mode for mode in self.mode_order]
        return self._alike(self.values, self.dtype, self.shape[::-1], modes)

    def bound(self, dtype: str | NumberFormat, name: str = "") -> "Tensor":
        """Return the tensor in a chip's number format: itself if it has a format, and the same
        tensor each time it is asked for the same format. ``name`` is for a warning of values that
        are stored as infinity.

        Raises
        ------
        ValueError
            For a value that an int8 chip can't hold; the message names it and its index.
        """
        number = numbers.number_format(dtype)
        if self.dtype is not None:
            return self
        if number not in self._bound:
            stored = numbers.encode(self.values, number, self.wide, self._locate, name)
            self._bound[number] = self._alike(stored, number, self.shape, self.mode_order)
        return self._bound[number]

    def convert(
        self,
        levels: Levels,
        mode_order: Sequence[int] | None = None,
        *,
        keep_zeros: bool = False,
    ) -> "Tensor":
        """Return the same entries, bit for bit, with other levels or another order of them.

        Zeros that are stored only because the innermost level is dense are omitted from compressed
        levels, unless ``keep_zeros``.
        """
        kinds = parse_levels(levels, self.order)
        modes = check_mode_order(mode_order, self.order)
        if (kinds, modes) == (self.levels, self.mode_order):
            return self
        by_mode, stored = self.stored_entries()
        if not keep_zeros and self.levels[-1:] == (DENSE,) and COMPRESSED in kinds:
            kept = numbers.decode(stored) != 0
            by_mode, stored = [c[kept] for c in by_mode], stored[kept]
        return Tensor.from_stored(
            self.shape, kinds, by_mode, stored, dtype=self.dtype, wide=self.wide, mode_order=modes
        )

    @classmethod
    def from_stored(
        cls,
        shape: Sequence[int],
        levels: Levels,
        by_mode: Sequence[NDArray[np.int64]],
        stored: NDArray,
        *,
        dtype: NumberFormat | None,
        wide: bool,
        mode_order: Sequence[int] | None = None,
    ) -> Self:
        """Pack entries without repeats, in any order, with values in the chip's storage type."""
        modes = check_mode_order(mode_order, len(shape))
        columns = [by_mode[m] for m in modes]
        at = order_of(columns, [shape[m] for m in modes])
        if at is not None:
            columns, stored = [c[at] for c in columns], stored[at]
        return cls._packed(shape, levels, modes, columns, stored, dtype, wide)

    def _alike(
        self,
        values: NDArray,
        dtype: NumberFormat | None,
        shape: Sequence[int],
        mode_order: Sequence[int],
    ) -> "Tensor":
        """Return a tensor with the same level arrays."""
        tensor = Tensor(
            shape, self.levels, self.arrays, values,
            dtype=dtype, wide=self.wide, mode_order=mode_order,
        )  # fmt: skip
        tensor.levels_chosen = self.levels_chosen
        return tensor

    @classmethod
    def _packed(
        cls,
        shape: Sequence[int],
        levels: Levels,
        mode_order: Sequence[int],
        by_level: Sequence[NDArray[np.int64]],
        stored: NDArray,
        dtype: NumberFormat | None,
        wide: bool,
    ) -> Self:
        kinds = parse_levels(levels, len(shape))
        sizes = [shape[m] for m in mode_order]
        columns, at = panels.divide(by_level, sizes, kinds)
        stored = stored if at is None else stored[at]
        arrays, position, count = pack.encode(*panels.divided(sizes, kinds), columns, len(stored))
        what = f"a tensor of levels {','.join(kinds)}"
        check_memory(what, shape, count * values_of.value_bytes(dtype, wide), INSTEAD)
        values = np.zeros(count, stored.dtype)
        values[position] = stored
        return cls(shape, kinds, arrays, values, dtype=dtype, wide=wide, mode_order=mode_order)
