"""The kernels with their operands: what the chip runs, and what the CPU's libraries compute."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..bounds import Unbounded
from ..cases import NO_SQUARE, Case, product, spmm_case, spmv_case
from ..layer import BATCH, SIZE, batch, some
from ..matrices import SEED, load_matrix, matrix_names, nonzeros
from ..orders import ADD, SDDMM, like, sampled
from .tensors import TENSORS, draw_tensor, fibers_of

MTTKRP = "M[i,r] = T[i,j,k] * B[j,r] * C[k,r]"
TTV = "Y[i,j] = T[i,j,k] * x[k]"

INNER = 64
"""Size of index k of SDDMM."""

RANK = 32
"""Size of index r of MTTKRP."""

KEPT = 0.1
"""Share of the layer's weights that are not zero."""

ZEROS = "90 % zeros"
"""The layer's weights, instead of a matrix by name."""

ON_MATRICES = ("SpMV", "SpMM", "SpGEMM", "SDDMM", "add")
ON_TENSORS = ("MTTKRP", "TTV")
LAYER = "layer"

KERNELS = (*ON_MATRICES[:4], *ON_TENSORS, ON_MATRICES[4], LAYER)
"""The names of the kernels, in the order of the table."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A kernel on one matrix or tensor.

    Attributes
    ----------
    kernel : str
        One of `KERNELS`.
    data : str
        The matrix or tensor by name.
    nonzeros : int
        Of its first operand.
    case : Case
        What the chip runs.
    arrays : tuple
        What the CPU's libraries take, by kernel: in single precision, and in the order of rows.
        SpMV, SpMM, layer: the matrix and the dense operand; SpGEMM, add: both matrices; SDDMM: the
        matrix, and the dense ones with the inner index as columns; MTTKRP: the tensor's `Fibers`
        and the two factors; TTV: the `Fibers`, the vector, and the result's number of columns.
    """

    kernel: str
    data: str
    nonzeros: int
    case: Case
    arrays: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.kernel} {self.data}"


@dataclass(frozen=True)
class Choice:
    """Kernels and data by name; all where there is none."""

    kernels: Sequence[str] = ()
    data: Sequence[str] = ()

    def has(self, kernel: str, data: str) -> bool:
        """Return whether this one is chosen; the layer has no data, and is chosen by its name."""
        if kernel == LAYER and self.data:
            return LAYER in self.kernels
        of_kernels = not self.kernels or kernel in self.kernels
        return of_kernels and (not self.data or data in self.data)


def data_names(folder: Path | None) -> list[str]:
    """Return the names of the folder's matrices, and of the tensors."""
    return [*(matrix_names(folder) if folder is not None else ()), *TENSORS]


def make_problems(folder: Path | None, seed: int, choice: Choice) -> Iterator[Problem]:
    """Yield what is chosen, small matrices first; ``seed`` is of the tensors."""
    if choice.has(LAYER, ZEROS):
        yield _layer()
    for name in TENSORS:
        if any(choice.has(kernel, name) for kernel in ON_TENSORS):
            tensor = draw_tensor(name, seed)
            for kernel in ON_TENSORS:
                if choice.has(kernel, name):
                    yield _OF_TENSOR[kernel](name, tensor)
    if folder is None:
        return
    wanted = [
        name
        for name in matrix_names(folder)
        if any(choice.has(kernel, name) for kernel in ON_MATRICES)
    ]
    matrices = {name: load_matrix(folder, name) for name in wanted}
    for name, A in sorted(matrices.items(), key=lambda item: item[1].nnz):
        for kernel in ON_MATRICES:
            dense = kernel == "SpGEMM" and name in NO_SQUARE
            if choice.has(kernel, name) and not dense:
                yield _OF_MATRIX[kernel](name, A)


def single(array: Any) -> Any:
    """Return a matrix or an array in single precision; a matrix with indices of 32 bits."""
    if not sp.issparse(array):
        return np.ascontiguousarray(array, np.float32)
    csr = sp.csr_array(array)
    csr.sum_duplicates()
    parts = csr.data.astype(np.float32), csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
    return sp.csr_array(parts, csr.shape)


def _problem(kernel: str, data: str, case: Case, *arrays: Any) -> Problem:
    first = next(iter(case.operands.values()))
    named = replace(case, name=f"{kernel} {data}")
    return Problem(kernel=kernel, data=data, nonzeros=first.nnz, case=named, arrays=arrays)


def _case(
    statement: str, operands: dict[str, Any], expected: Callable[[], Any], order: str | None = None
) -> Case:
    return Case(
        name="",
        statement=statement,
        order=order,
        operands=operands,
        expected=expected,
        bound=Unbounded(),
    )


def _spmv(name: str, A: sp.csr_array) -> Problem:
    case = spmv_case(name, A)
    return _problem("SpMV", name, case, single(A), single(case.operands["x"]))


def _spmm(name: str, A: sp.csr_array) -> Problem:
    case = spmm_case(name, A)
    return _problem("SpMM", name, case, single(A), single(case.operands["B"]))


def _spgemm(name: str, A: sp.csr_array) -> Problem:
    B = A if A.shape[0] == A.shape[1] else sp.csr_array(A.T)
    return _problem("SpGEMM", name, product("", A, B, Unbounded()), single(A), single(B))


def _sddmm(name: str, A: sp.csr_array) -> Problem:
    rng = np.random.default_rng(SEED)
    c, d = nonzeros((A.shape[0], INNER), rng), nonzeros((INNER, A.shape[1]), rng)
    operands = {"A": A, "c": c, "d": d}
    case = _case(SDDMM, operands, lambda: sampled(operands))
    return _problem("SDDMM", name, case, single(A), single(c), single(d.T))


def _add(name: str, A: sp.csr_array) -> Problem:
    B = like(A, np.random.default_rng(SEED))
    case = _case(ADD, {"A": A, "B": B}, lambda: A + B)
    return _problem("add", name, case, single(A), single(B))


def _mttkrp(name: str, T: sp.coo_array) -> Problem:
    rng = np.random.default_rng(SEED)
    B, C = (nonzeros((size, RANK), rng) for size in T.shape[1:])

    def expected() -> NDArray:
        i, j, k = T.coords
        found = np.zeros((T.shape[0], RANK))
        np.add.at(found, i, T.data[:, None] * B[j] * C[k])
        return found

    case = _case(MTTKRP, {"T": T, "B": B, "C": C}, expected)
    return _problem("MTTKRP", name, case, fibers_of(T), single(B), single(C))


def _ttv(name: str, T: sp.coo_array) -> Problem:
    x = nonzeros((T.shape[2],), np.random.default_rng(SEED))

    def expected() -> sp.csr_array:
        i, j, k = T.coords
        return sp.coo_array((T.data * x[k], (i, j)), T.shape[:2]).tocsr()

    case = _case(TTV, {"T": T, "x": x}, expected)
    return _problem("TTV", name, case, fibers_of(T), single(x), T.shape[1])


def _layer() -> Problem:
    rng = np.random.default_rng(SEED)
    weights, inputs = nonzeros((SIZE, SIZE), rng), nonzeros((SIZE, BATCH), rng)
    W = sp.csr_array(weights * some(KEPT)(rng))
    return _problem(LAYER, ZEROS, batch("", W, inputs, Unbounded()), single(W), single(inputs))


_OF_MATRIX = {"SpMV": _spmv, "SpMM": _spmm, "SpGEMM": _spgemm, "SDDMM": _sddmm, "add": _add}
_OF_TENSOR = {"MTTKRP": _mttkrp, "TTV": _ttv}
