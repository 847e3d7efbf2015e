"""Converts sparse layouts of any library to consistent SciPy arrays.

SciPy does not check consistency itself, and would read and write out of bounds.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from ..arguments import check_coordinates

COMPRESSED_LAYOUTS = ("csr", "csc", "bsr")


def checked(matrix: Any) -> Any:
    """Return a scipy.sparse array in the format CSR, CSC, BSR or COO; the argument if it is one.

    Raises
    ------
    ValueError
        If its arrays contradict each other.
    TypeError
        For indices that are not integers.
    """
    if matrix.format in COMPRESSED_LAYOUTS:
        sound = copy.copy(matrix)  # this converts the arrays, and truncates them to their length
        for name in ("indptr", "indices"):
            array = getattr(matrix, name)
            _check_integers(name, array)
            if array.dtype.kind == "u":
                setattr(sound, name, array.astype(np.int64))
        sound.check_format(full_check=True)
        # SciPy skips this check if there are no indices
        if (sound.indptr[1:] < sound.indptr[:-1]).any():
            raise ValueError("indptr must be a non-decreasing sequence")
        signed = matrix.indices.dtype == matrix.indptr.dtype and matrix.indices.dtype.kind == "i"
        same = signed and len(matrix.indices) == len(sound.indices)
        return matrix if same else sound
    if matrix.format == "lil":
        rows, data = ([len(part) for part in lists] for lists in (matrix.rows, matrix.data))
        if rows != data or len(rows) != matrix.shape[0]:
            raise ValueError("rows and data of different lengths: expected a value for each column")
    if matrix.format == "dia":
        _check_integers("offsets", matrix.offsets)
        if matrix.offsets.shape != matrix.data.shape[:1]:
            raise ValueError(
                f"offsets of shape {matrix.offsets.shape}: expected {matrix.data.shape[:1]}"
            )
    coo = matrix.tocoo()
    check_coordinates(coo.coords, coo.shape, len(coo.data))
    return coo


def compressed(
    kind: str, indptr: NDArray, indices: NDArray, data: NDArray, shape: Sequence[int]
) -> Any:
    """Return a csr_array, csc_array or bsr_array of its arrays.

    Raises
    ------
    ValueError
        If they contradict each other.
    TypeError
        For indices that are not integers.
    """
    if len(shape) != 2:
        raise ValueError(f"{kind} array of shape {tuple(shape)}: expected a matrix")
    for name, array in (("indptr", indptr), ("indices", indices)):
        _check_integers(name, array)
        if array.ndim != 1:
            raise ValueError(f"{name} of {array.ndim} dimensions: expected 1")
    make = getattr(sp, f"{kind}_array")
    return checked(make((storable(data), indices, indptr), shape=tuple(shape)))


def coordinates(coords: Sequence[ArrayLike], data: NDArray, shape: Sequence[int]) -> Any:
    """Return a coo_array of coordinates, an array for each mode; the sum of a tensor of order 0.

    Raises
    ------
    ValueError
        If they are outside the shape, or their number differs from that of the values.
    TypeError
        For coordinates that are not integers.
    """
    if data.ndim != 1:
        raise ValueError(f"values of {data.ndim} dimensions: expected 1")
    columns = check_coordinates(list(coords), shape, len(data))
    if not columns:
        return np.asarray(data.sum(dtype=data.dtype))
    return sp.coo_array((storable(data), tuple(columns)), tuple(shape))


def gcxs(
    shape: Sequence[int],
    compressed_axes: Sequence[int],
    indptr: NDArray,
    indices: NDArray,
    data: NDArray,
) -> Any:
    """Return a coo_array of pydata/sparse's GCXS layout: a CSR matrix whose rows are the compressed
    axes, in their order, and whose columns are the others.

    Raises
    ------
    ValueError
        If the arrays contradict each other.
    TypeError
        For indices that are not integers.
    """
    order = len(shape)
    axes = [*compressed_axes, *(a for a in range(order) if a not in compressed_axes)]
    if sorted(axes) != list(range(order)):
        raise ValueError(f"compressed axes {tuple(compressed_axes)}: expected some of {order}")
    sizes = [shape[a] for a in axes]
    rows = math.prod(sizes[: len(compressed_axes)])
    columns = math.prod(sizes[len(compressed_axes) :])
    matrix = compressed("csr", indptr, indices, data, (rows, columns)).tocoo()
    parts = sizes[: len(compressed_axes)], sizes[len(compressed_axes) :]
    by_axis = [
        along
        for at, part in zip(matrix.coords, parts, strict=True)
        for along in (np.unravel_index(at, part) if part else ())
    ]
    return coordinates([by_axis[axes.index(a)] for a in range(order)], matrix.data, shape)


def _check_integers(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} of type {kind}: expected an array of integers")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise ValueError(f"{name} of {array.max()}: expected up to {np.iinfo(np.int64).max}")


def storable(data: NDArray) -> NDArray:
    """Return values in a type that SciPy's arrays support, without changing them: those of float16,
    and of types that NumPy does not have (bfloat16), as float32; others in this machine's order of
    bytes.
    """
    half = data.dtype.kind == "f" and data.dtype.itemsize < 4
    if half or data.dtype.kind not in "biufc":
        return data.astype(np.float32)
    return data.astype(data.dtype.newbyteorder("="), copy=False)
