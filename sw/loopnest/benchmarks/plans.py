"""Statements whose plan matters more than their kernels: products of several factors, hyper-sparse
matrices, a diagonal.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .bounds import Bound, Fixed, Unbounded
from .cases import MATMUL, Case
from .matrices import SEED, nonzeros

ADAPTER = "Y[i,l] = A[i,j] * D[j,k] * E[k,l]"
CHAIN = "y[i] = A[i,j] * B[j,k] * x[k]"
MTTKRP = "M[i,r] = A[i,j,k,l] * B[j,r] * C[k,r] * D[l,r]"
TUCKER = "Y[i,r,s] = A[i,j,k] * U[j,r] * V[k,s]"
DIAGONAL = "d[i] = A[i,i]"

SIDE, DENSITY, RANK = 500, 0.03, 8
ENTRIES = 150
WIDE = 1 << 20
FEW = 1_000

TARGETS = {ADAPTER: 540_000, CHAIN: 8_000, TUCKER: 12_000, MATMUL: 10_000}
"""Maximum cycles at a memory latency of 4."""


def plan_cases() -> Iterator[Case]:
    """Yield the statements; values are small integers."""
    rng = np.random.default_rng(SEED)

    def sparse(shape: tuple[int, ...], entries: int) -> sp.coo_array:
        at = np.unravel_index(
            np.sort(rng.choice(np.prod(shape, dtype=np.int64), entries, replace=False)), shape
        )
        return sp.coo_array((nonzeros((entries,), rng), at), shape)

    square = int(DENSITY * SIDE**2)
    A, B = (sparse((SIDE, SIDE), square).tocsr() for _ in "AB")
    D, E, x = (nonzeros(shape, rng) for shape in ((SIDE, RANK), (RANK, SIDE), (SIDE,)))
    yield _case("low-rank adapter", ADAPTER, {"A": A, "D": D, "E": E}, lambda: A @ D @ E)
    yield _case("A B x", CHAIN, {"A": A, "B": B, "x": x}, lambda: A @ (B @ x))
    yield _mttkrp(sparse((2482, 2862, 14036, 17), ENTRIES), rng)
    yield _tucker(sparse((1605, 4198, 1631), ENTRIES), rng)
    few = _hyper_sparse(rng)
    yield _case("hyper-sparse SpGEMM", MATMUL, {"A": few[0], "B": few[1]}, lambda: few[0] @ few[1])
    diagonal = sp.csr_array(A + sp.eye_array(SIDE))
    yield _case("diagonal of a CSR matrix", DIAGONAL, {"A": diagonal}, diagonal.diagonal)


def _case(
    name: str, statement: str, operands: Mapping[str, Any], expected: Callable[[], Any]
) -> Case:
    found = TARGETS.get(statement)
    bound: Bound = Unbounded() if found is None else Fixed(found)
    return Case(
        name=name,
        statement=statement,
        order=None,
        operands=operands,
        expected=expected,
        bound=bound,
    )


def _hyper_sparse(rng: np.random.Generator) -> tuple[sp.csr_array, sp.csr_array]:
    """Return two matrices of 2^20 rows; each column of the first that is not empty is a row of the
    second.
    """
    i, k, j = (rng.choice(WIDE, FEW) for _ in "ikj")
    shape = (WIDE, WIDE)
    left = sp.coo_array((nonzeros((FEW,), rng), (i, k)), shape)
    right = sp.coo_array((nonzeros((FEW,), rng), (k, j)), shape)
    return left.tocsr(), right.tocsr()


def _mttkrp(A: sp.coo_array, rng: np.random.Generator) -> Case:
    factors = [nonzeros((size, RANK // 2), rng) for size in A.shape[1:]]

    def expected() -> NDArray:
        i, *at = A.coords
        whole = np.zeros((A.shape[0], RANK // 2))
        terms = [factor[c] for factor, c in zip(factors, at, strict=True)]
        np.add.at(whole, i, A.data[:, None] * np.prod(terms, axis=0))
        return whole

    named = dict(zip("BCD", factors, strict=True))
    return _case("MTTKRP of order 4", MTTKRP, {"A": A, **named}, expected)


def _tucker(A: sp.coo_array, rng: np.random.Generator) -> Case:
    U, V = (nonzeros((size, RANK), rng) for size in A.shape[1:])

    def expected() -> NDArray:
        i, j, k = A.coords
        whole = np.zeros((A.shape[0], RANK, RANK))
        np.add.at(whole, i, A.data[:, None, None] * U[j][:, :, None] * V[k][:, None, :])
        return whole

    return _case("Tucker of order 3", TUCKER, {"A": A, "U": U, "V": V}, expected)
