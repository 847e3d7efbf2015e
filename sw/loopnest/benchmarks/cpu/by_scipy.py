"""The kernels by SciPy and NumPy: always installed. SciPy's products have one thread, NumPy's
products of dense matrices all.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .candidate import Candidate, Makers, called
from .tensors import Fibers


def set_threads(count: int) -> None:
    """Do nothing: NumPy's threads are those of its BLAS, which `threadpoolctl` sets."""


def _product(A: sp.csr_array, B: Any) -> list[Candidate]:
    return [called("SciPy", lambda: A @ B, parallel=False)]


def _add(A: sp.csr_array, B: sp.csr_array) -> list[Candidate]:
    return [called("SciPy", lambda: A + B, parallel=False)]


def _sddmm(A: sp.csr_array, C: NDArray, D: NDArray) -> list[Candidate]:
    rows, columns = A.tocoo().coords

    def sampled() -> sp.csr_array:
        values = A.data * np.einsum("pk,pk->p", C[rows], D[columns])
        return sp.csr_array((values, A.indices, A.indptr), A.shape)

    return [called("NumPy", sampled, parallel=False)]


def _mttkrp(T: Fibers, B: NDArray, C: NDArray) -> list[Candidate]:
    def factored() -> NDArray:
        fibers = T.entries @ C
        fibers *= B[T.middle]
        return T.sums @ fibers

    return [called("SciPy", factored, parallel=False)]


def _ttv(T: Fibers, x: NDArray, columns: int) -> list[Candidate]:
    def run(times: int) -> None:
        for _ in range(times):
            T.entries @ x

    return [Candidate("SciPy", run, lambda: T.scattered(T.entries @ x, columns), parallel=False)]


def _layer(W: sp.csr_array, X: NDArray) -> list[Candidate]:
    dense = W.toarray()
    return [*_product(W, X), called("NumPy, dense", lambda: dense @ X, parallel=True)]


MAKERS: Makers = {
    "SpMV": _product,
    "SpMM": _product,
    "SpGEMM": _product,
    "SDDMM": _sddmm,
    "MTTKRP": _mttkrp,
    "TTV": _ttv,
    "add": _add,
    "layer": _layer,
}
