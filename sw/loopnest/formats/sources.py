"""Converts operands to consistent arrays of SciPy and NumPy."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from .layouts import checked
from .libraries import from_pandas, from_pydata, from_torch, is_pandas, is_pydata, is_torch


def as_array(source: Any) -> Any:
    """Return a scipy.sparse array in the format CSR, CSC, BSR or COO, or a NumPy array.

    Arrays of pydata/sparse, PyTorch and pandas are converted, and arguments of `dense_array`. The
    argument is not changed. A BSR array with zeros in its blocks is returned as COO without them.

    Raises
    ------
    ValueError
        For a sparse array whose arrays contradict each other, whose fill value is not 0, or that
        has dense dimensions, and as `dense_array`.
    TypeError
        For coordinates that are not integers, or values that are not real numbers.
    """
    source = from_library(source)
    return _unpadded(checked(source)) if sp.issparse(source) else dense_array(source)


def dense_array(source: Any) -> np.ndarray:
    """Return an array, a number or nested lists as a NumPy array of any type.

    Raises
    ------
    ValueError
        For values that are masked, or lists whose lengths differ.
    """
    if np.ma.is_masked(source):
        raise ValueError("masked array with masked values: expected one without (`filled`)")
    source = from_library(source)
    try:
        return np.asarray(source)
    except RuntimeError as error:  # of tensors of PyTorch in a list
        raise ValueError(f"{type(source).__name__}: {error}") from None
    except ValueError:
        if not isinstance(source, list | tuple):
            raise
        raise ValueError(
            f"{type(source).__name__} whose parts differ in shape: expected an array"
        ) from None


def from_library(source: Any) -> Any:
    """Return another library's tensor as an array of SciPy or NumPy, and anything else unchanged.

    Raises
    ------
    ValueError, TypeError
        As `as_array`.
    """
    try:
        if is_torch(source):
            return from_torch(source)
        if is_pydata(source):
            return from_pydata(source)
        return from_pandas(source) if is_pandas(source) else source
    except (ArithmeticError, LookupError, RuntimeError) as error:
        raise ValueError(f"{type(source).__name__}: {error}") from error


def _unpadded(matrix: Any) -> Any:
    """Return BSR with zeros in its blocks as COO without them, and anything else unchanged."""
    if matrix.format != "bsr" or matrix.data.all():
        return matrix
    coo = matrix.tocoo()
    kept = coo.data != 0
    return sp.coo_array((coo.data[kept], tuple(c[kept] for c in coo.coords)), coo.shape)
