"""The kernels as loops of our own (`plain`), compiled by numba."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from . import plain
from .candidate import Candidate, Makers
from .tensors import Fibers

PIECES = 8
"""Pieces of rows for each thread, in the product of two sparse matrices."""

Result = Callable[[], Any]


def set_threads(count: int) -> None:
    """Set numba's threads."""
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


@cache
def repeated(kernel: Callable[..., None], parallel: bool) -> Callable[..., None]:
    """Return a compiled function that runs a kernel as often as its first argument says.

    So the call from Python, which takes as long as the smallest kernels, is not counted.
    """
    once = numba.njit(parallel=parallel, fastmath=True)(kernel)

    @numba.njit
    def repeat(times: int, *arguments: Any) -> None:
        for _ in range(times):
            once(*arguments)

    return repeat


def _candidates(
    kernel: Callable[..., None], arguments: tuple[Any, ...], result: Result
) -> list[Candidate]:
    """Return the loops in one thread and in all; ``result`` returns what they left."""
    found = []
    for parallel in (False, True):
        run = repeated(kernel, parallel)

        def times(count: int, run: Callable[..., None] = run) -> None:
            run(count, *arguments)

        def computed(run: Callable[..., None] = run) -> Any:
            run(1, *arguments)
            return result()

        found.append(Candidate("numba", times, computed, parallel, alone=not parallel))
    return found


def _parts(A: sp.csr_array) -> tuple[NDArray, NDArray, NDArray]:
    return A.indptr, A.indices, A.data


def _spmv(A: sp.csr_array, x: NDArray) -> list[Candidate]:
    y = np.zeros(A.shape[0], np.float32)
    return _candidates(plain.spmv, (*_parts(A), x, y), lambda: y)


def _spmm(A: sp.csr_array, X: NDArray) -> list[Candidate]:
    Y = np.zeros((A.shape[0], X.shape[1]), np.float32)
    return _candidates(plain.spmm, (*_parts(A), X, Y), lambda: Y)


def _spgemm(A: sp.csr_array, B: sp.csr_array) -> list[Candidate]:
    entries = np.diff(B.indptr)[A.indices]
    work = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])[A.indptr]
    most = np.minimum(np.diff(work), B.shape[1])
    begins = np.concatenate([[0], np.cumsum(most)])
    ends = np.zeros(A.shape[0], np.int64)
    columns, values = np.zeros(begins[-1], np.int32), np.zeros(begins[-1], np.float32)

    def pieces(count: int) -> NDArray:
        at = np.searchsorted(work, np.linspace(0, work[-1], count + 1))
        at[0], at[-1] = 0, A.shape[0]
        return at

    def result() -> sp.csr_array:
        return gathered(begins, ends, columns, values, (A.shape[0], B.shape[1]))

    found = []
    for count in (1, PIECES * numba.config.NUMBA_NUM_THREADS):
        bounds = B.shape[1], pieces(count), begins, ends, columns, values
        of_count = _candidates(plain.spgemm, (*_parts(A), *_parts(B), *bounds), result)
        found += [one for one in of_count if one.parallel == (count > 1)]
    return found


def _add(A: sp.csr_array, B: sp.csr_array) -> list[Candidate]:
    begins = A.indptr + B.indptr
    ends = np.zeros(A.shape[0], np.int64)
    columns, values = np.zeros(begins[-1], np.int32), np.zeros(begins[-1], np.float32)

    def result() -> sp.csr_array:
        return gathered(begins, ends, columns, values, A.shape)

    return _candidates(plain.add, (*_parts(A), *_parts(B), ends, columns, values), result)


def gathered(
    begins: NDArray, ends: NDArray, columns: NDArray, values: NDArray, shape: tuple[int, int]
) -> sp.csr_array:
    """Return a matrix whose rows have gaps between them."""
    counts = ends - begins[:-1]
    positions = np.concatenate([[0], np.cumsum(counts)])
    at = np.arange(positions[-1]) + np.repeat(begins[:-1] - positions[:-1], counts)
    return sp.csr_array((values[at], columns[at], positions), shape)


def _sddmm(A: sp.csr_array, C: NDArray, D: NDArray) -> list[Candidate]:
    found = np.zeros(A.nnz, np.float32)

    def result() -> sp.csr_array:
        return sp.csr_array((found, A.indices, A.indptr), A.shape)

    return _candidates(plain.sddmm, (*_parts(A), C, D, found), result)


def _mttkrp(T: Fibers, B: NDArray, C: NDArray) -> list[Candidate]:
    M = np.zeros((len(T.rows) - 1, C.shape[1]), np.float32)
    return _candidates(plain.mttkrp, (T.rows, T.middle, *_parts(T.entries), B, C, M), lambda: M)


def _ttv(T: Fibers, x: NDArray, columns: int) -> list[Candidate]:
    y = np.zeros(T.entries.shape[0], np.float32)
    arguments = *_parts(T.entries), x, y
    return _candidates(plain.spmv, arguments, lambda: T.scattered(y, columns))


MAKERS: Makers = {
    "SpMV": _spmv,
    "SpMM": _spmm,
    "SpGEMM": _spgemm,
    "SDDMM": _sddmm,
    "MTTKRP": _mttkrp,
    "TTV": _ttv,
    "add": _add,
    "layer": _spmm,
}
