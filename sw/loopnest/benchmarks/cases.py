"""The benchmark cases: kernels on the matrices of a folder, with SciPy's results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from .bounds import Bound, Fixed, OfRoof
from .matrices import SEED, load_matrix, matrix_names, nonzeros

SPMV = "y[i] = A[i,j] * x[j]"
MATMUL = "C[i,j] = A[i,k] * B[k,j]"
GUSTAVSON = "ikj"

SAM = ("sam_B_250x100", "sam_C_100x250")
"""The pair of matrices of the Sparse Abstract Machine's published figures."""
SAM_CYCLES = 8_500

DENSE = 128
DENSE_SHARE = 0.95
"""Of the multiplier slots."""

COLUMNS = 64
"""Of the dense matrix in SpMM."""

NO_SQUARE = ("arrow",)
"""Matrices whose square is dense."""

ROOF_SHARE = 0.85
ROOF_SHARES = {"ca-CondMat": 0.70}
"""SpGEMM's shares of the roof that are not `ROOF_SHARE`."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kernel.

    Attributes
    ----------
    name : str
    statement, order : str
        Arguments of `Chip.compute`; order None: the runtime chooses.
    operands : mapping of str to array
    expected : function
        Returns the result by SciPy or NumPy.
    bound : Bound
    """

    name: str
    statement: str
    order: str | None
    operands: Mapping[str, Any]
    expected: Callable[[], Any]
    bound: Bound


Make: TypeAlias = Callable[[str, sp.csr_array], Case]
"""Makes a matrix's case from its name and the matrix."""


def product(name: str, A: Any, B: Any, bound: Bound) -> Case:
    """Return the product of two matrices by Gustavson's order."""
    return Case(
        name=name,
        statement=MATMUL,
        order=GUSTAVSON,
        operands={"A": A, "B": B},
        expected=lambda: A @ B,
        bound=bound,
    )


def dense_case(multipliers: int) -> Case:
    """Return the product of two dense matrices."""
    rng = np.random.default_rng(SEED)
    A, B = nonzeros((DENSE, DENSE), rng), nonzeros((DENSE, DENSE), rng)
    bound = Fixed(DENSE**3 / multipliers / DENSE_SHARE)
    return product(f"dense {DENSE}^3", A, B, bound)


def spmv_case(name: str, A: sp.csr_array) -> Case:
    """Return a matrix times a dense vector."""
    x = nonzeros((A.shape[1],), np.random.default_rng(SEED))
    return Case(
        name=f"SpMV {name}",
        statement=SPMV,
        order="ij",
        operands={"A": A, "x": x},
        expected=lambda: A @ x,
        bound=OfRoof(ROOF_SHARE),
    )


def spmm_case(name: str, A: sp.csr_array) -> Case:
    """Return a matrix times a dense one of `COLUMNS` columns."""
    X = nonzeros((A.shape[1], COLUMNS), np.random.default_rng(SEED))
    return product(f"SpMM {name}", A, X, OfRoof(ROOF_SHARE))


def square_case(name: str, A: sp.csr_array) -> Case:
    """Return a matrix times itself, or if it is not square times its transpose."""
    B = A if A.shape[0] == A.shape[1] else sp.csr_array(A.T)
    return product(f"SpGEMM {name}", A, B, OfRoof(ROOF_SHARES.get(name, ROOF_SHARE)))


def matrix_cases(
    folder: Path,
    wanted: Sequence[str],
    made: Callable[[Make, str, sp.csr_array], Case] = lambda make, name, A: make(name, A),
) -> Iterator[Case]:
    """Yield SpMV, SpMM and SpGEMM of the folder's matrices; of all of them if none is named.
    ``made`` makes each case of one matrix.
    """
    for name in matrix_names(folder):
        if wanted and name not in wanted:
            continue
        A = load_matrix(folder, name)
        yield made(spmv_case, name, A)
        yield made(spmm_case, name, A)
        if name in NO_SQUARE or name == SAM[1]:
            continue
        if name == SAM[0]:
            B = load_matrix(folder, SAM[1])
            yield product("SAM's pair", A, B, Fixed(SAM_CYCLES))
            yield product(f"SpGEMM {SAM[0]}, {SAM[1]}", A, B, OfRoof(ROOF_SHARE))
        else:
            yield made(square_case, name, A)
