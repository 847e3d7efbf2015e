"""Tensors of other libraries, as arrays of SciPy and NumPy that do not contradict themselves.

The libraries are not imported: an object is known by what it has.
"""

import copy
import sys
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..arguments import check_coordinates


def known(source: Any) -> Any:
    """Return a scipy.sparse array in the format CSR, CSC, BSR or COO, or a NumPy array.

    Those of pydata/sparse and PyTorch are taken too, and what `dense_array` takes. The argument
    stays as it is.

    Raises
    ------
    ValueError
        For a sparse array whose arrays contradict each other, whose fill value is not 0, or that
        has dense dimensions, and as `dense_array`.
    TypeError
        For one whose coordinates are no integers.
    """
    if _is_torch(source):
        source = _from_torch(source)
    elif type(source).__module__.split(".")[0] == "sparse" and hasattr(source, "todense"):
        coo = source.asformat("coo")
        if coo.fill_value != 0:
            raise ValueError(f"fill value {coo.fill_value}: expected 0")
        if coo.ndim:
            source = sp.coo_array((coo.data, tuple(coo.coords)), coo.shape)
        else:
            source = coo.todense()
    return _checked(source) if sp.issparse(source) else dense_array(source)


def dense_array(source: Any) -> np.ndarray:
    """Return an array, a number or nested lists as a NumPy array of any type.

    Raises
    ------
    ValueError
        For values that are masked, or lists whose lengths differ.
    """
    if np.ma.is_masked(source):
        raise ValueError("masked array with masked values: expected one without (`filled`)")
    try:
        return np.asarray(source)
    except ValueError:
        if not isinstance(source, list | tuple):
            raise
        raise ValueError(
            f"{type(source).__name__} whose parts differ in shape: expected an array"
        ) from None


def _checked(matrix: Any) -> Any:
    """Return a scipy.sparse array without contradictions. SciPy does not look for them by itself,
    and would read and write anywhere.
    """
    if matrix.format in ("csr", "csc", "bsr"):
        for name in ("indptr", "indices"):
            _check_integers(name, getattr(matrix, name))
        checked = copy.copy(matrix)  # it cuts its arrays to their length
        checked.check_format(full_check=True)
        if (checked.indptr[1:] < checked.indptr[:-1]).any():  # it skips this without indices
            raise ValueError("indptr must be a non-decreasing sequence")
        return matrix if len(matrix.indices) == len(checked.indices) else checked
    if matrix.format == "lil":
        rows, data = ([len(part) for part in lists] for lists in (matrix.rows, matrix.data))
        if rows != data or len(rows) != matrix.shape[0]:
            raise ValueError("rows and data of different lengths: expected a value for each column")
    if matrix.format == "dia" and matrix.offsets.shape != matrix.data.shape[:1]:
        raise ValueError(
            f"offsets of shape {matrix.offsets.shape}: expected {matrix.data.shape[:1]}"
        )
    coo = matrix.tocoo()
    check_coordinates(coo.coords, coo.shape, len(coo.data))
    return coo


def _check_integers(name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} of type {kind}: expected an array of integers")


def _is_torch(source: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach().cpu()
    if str(tensor.layout) == "torch.strided":
        return _numbers(tensor)
    coo = tensor.to_sparse_coo().coalesce()
    if coo.dense_dim():
        raise ValueError(f"{coo.dense_dim()} dense dimensions in a sparse tensor: expected none")
    return sp.coo_array((_numbers(coo.values()), tuple(coo.indices().numpy())), tuple(coo.shape))


def _numbers(tensor: Any) -> np.ndarray:
    # NumPy has no bfloat16
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
