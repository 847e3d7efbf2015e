"""The kernels by Intel's MKL: its inspector-executor routines, with a matrix that was analysed
before (``mkl_sparse_optimize``), and ``sparse_dot_mkl`` for the product of two sparse matrices.
"""

import ctypes
import os
from importlib.metadata import files
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .candidate import Candidate, Makers, called
from .tensors import Fibers


def _library() -> str:
    """Return the path of ``libmkl_rt``, which the package `mkl` puts where no loader looks."""
    for file in files("mkl") or ():
        if file.name.startswith("libmkl_rt."):
            return str(file.locate())
    raise ModuleNotFoundError("mkl has no libmkl_rt", name="mkl")


# sparse_dot_mkl looks here first
os.environ.setdefault("MKL_RT", _library())

import sparse_dot_mkl as dot  # noqa: E402

_mkl = ctypes.CDLL(os.environ["MKL_RT"])

_AS_IT_IS, _GENERAL, _ROWS, _CALLS = 10, 20, 101, 1_000
"""Constants of ``mkl_spblas.h``: no transposition, no symmetry, a dense matrix by rows; and the
calls that MKL is told to expect."""


class _Description(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("kind", "triangle", "diagonal")]


_DESCRIPTION = _Description(_GENERAL, 0, 0)


class _Matrix:
    """A matrix in MKL's form, analysed for products with a vector or with a dense matrix."""

    def __init__(self, A: sp.csr_array, columns: int | None) -> None:
        # MKL refers to these arrays
        self._arrays = A.indptr, A.indices, A.data
        self.rows = A.shape[0]
        self.handle = ctypes.c_void_p()
        positions, indices, values = (_address(array) for array in self._arrays)
        ends = ctypes.c_void_p(A.indptr.ctypes.data + A.indptr.itemsize)
        _check(
            _mkl.mkl_sparse_s_create_csr(
                *(ctypes.byref(self.handle), 0, *A.shape, positions, ends, indices, values)
            )
        )
        if columns is None:
            _check(_mkl.mkl_sparse_set_mv_hint(self.handle, _AS_IT_IS, _DESCRIPTION, _CALLS))
        else:
            hint = _AS_IT_IS, _DESCRIPTION, _ROWS, columns, _CALLS
            _check(_mkl.mkl_sparse_set_mm_hint(self.handle, *hint))
        _check(_mkl.mkl_sparse_optimize(self.handle))

    def __del__(self) -> None:
        _mkl.mkl_sparse_destroy(self.handle)

    def times(self, X: NDArray, Y: NDArray) -> None:
        """Put the product with a vector or a dense matrix into Y."""
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        if X.ndim == 1:
            call = one, self.handle, _DESCRIPTION, _address(X), zero, _address(Y)
            _check(_mkl.mkl_sparse_s_mv(_AS_IT_IS, *call))
        else:
            columns = X.shape[1]
            dense = _address(X), columns, columns, zero, _address(Y), columns
            _check(_mkl.mkl_sparse_s_mm(_AS_IT_IS, one, self.handle, _DESCRIPTION, _ROWS, *dense))


def set_threads(count: int) -> None:
    """Set MKL's threads."""
    dot.mkl_set_num_threads(count)


def _address(array: NDArray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"MKL: status {status}")


def _product(A: sp.csr_array, X: NDArray) -> list[Candidate]:
    matrix = _Matrix(A, None if X.ndim == 1 else X.shape[1])
    Y = np.zeros((A.shape[0], *X.shape[1:]), np.float32)

    def product() -> NDArray:
        matrix.times(X, Y)
        return Y

    return [called("MKL", product, parallel=True)]


def _spgemm(A: sp.csr_array, B: sp.csr_array) -> list[Candidate]:
    return [called("MKL", lambda: dot.dot_product_mkl(A, B), parallel=True)]


def _mttkrp(T: Fibers, B: NDArray, C: NDArray) -> list[Candidate]:
    entries, sums = (_Matrix(matrix, C.shape[1]) for matrix in (T.entries, T.sums))
    fibers, found = (np.zeros((m.rows, C.shape[1]), np.float32) for m in (entries, sums))

    def factored() -> NDArray:
        entries.times(C, fibers)
        np.multiply(fibers, B[T.middle], out=fibers)
        sums.times(fibers, found)
        return found

    return [called("MKL", factored, parallel=True)]


def _ttv(T: Fibers, x: NDArray, columns: int) -> list[Candidate]:
    (product,) = _product(T.entries, x)

    def result() -> Any:
        return T.scattered(product.result(), columns)

    return [Candidate("MKL", product.run, result, parallel=True)]


MAKERS: Makers = {
    "SpMV": _product,
    "SpMM": _product,
    "SpGEMM": _spgemm,
    "MTTKRP": _mttkrp,
    "TTV": _ttv,
    "layer": _product,
}
