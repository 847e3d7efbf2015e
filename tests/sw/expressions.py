"""Expressions: the twelve of the Sparse Abstract Machine's Table 1 (ASPLOS 2023), and more.

Each is a statement and NumPy's word for it. Names with a capital are compressed, others dense.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest.expression.parser import parse
from loopnest.expression.split import factors_of, terms_of


@dataclass(frozen=True)
class Case:
    """A statement, its reference, and how many kernels it takes (but for `regrouped` ones)."""

    statement: str
    reference: Callable[..., Any]
    kernels: int = 1

    @property
    def operands(self) -> dict[str, str]:
        """The indices of each operand."""
        return {a.name: "".join(a.indices) for a in parse(self.statement).accesses}

    @property
    def regrouped(self) -> bool:
        """Whether the cost model chooses how many kernels it takes: it has a product of three."""
        terms = terms_of(parse(self.statement).expression)
        return any(len(factors_of(term.expression)) > 2 for term in terms)


def _einsum(subscripts: str) -> Callable[..., NDArray[Any]]:
    return lambda *arrays: np.einsum(subscripts, *arrays)


SAM = {
    "SpMV": Case("x[i] = B[i,j] * c[j]", _einsum("ij,j->i")),
    "SpMSpM": Case("X[i,j] = B[i,k] * C[k,j]", _einsum("ik,kj->ij")),
    "SDDMM": Case("X[i,j] = B[i,j] * c[i,k] * d[j,k]", _einsum("ij,ik,jk->ij")),
    "InnerProd": Case("x = B[i,j,k] * C[i,j,k]", _einsum("ijk,ijk->")),
    "TTV": Case("X[i,j] = B[i,j,k] * c[k]", _einsum("ijk,k->ij")),
    "TTM": Case("X[i,j,k] = B[i,j,l] * C[k,l]", _einsum("ijl,kl->ijk")),
    "MTTKRP": Case("X[i,j] = B[i,k,l] * C[j,k] * D[j,l]", _einsum("ikl,jk,jl->ij")),
    "Residual": Case("x[i] = b[i] - C[i,j] * d[j]", lambda b, C, d: b - C @ d, 2),
    "MatTransMul": Case(
        "x[i] = a * B[j,i] * c[j] + b * d[i]", lambda a, B, c, b, d: a * (B.T @ c) + b * d, 2
    ),
    "MMAdd": Case("X[i,j] = B[i,j] + C[i,j]", np.add),
    "Plus3": Case("X[i,j] = B[i,j] + C[i,j] + D[i,j]", lambda B, C, D: B + C + D),
    "Plus2": Case("X[i,j,k] = B[i,j,k] + C[i,j,k]", np.add),
}

MORE = {
    "mixed joins": Case("X[i,j] = B[i,j] * (C[i,j] + D[i,j])", lambda B, C, D: B * (C + D)),
    "outer product": Case("X[i,j] = B[i] * C[j]", _einsum("i,j->ij")),
    "Hadamard of three": Case("X[i,j] = B[i,j] * C[i,j] * D[i,j]", lambda B, C, D: B * C * D),
    "reduction to a vector": Case("x[i] = B[i,j]", lambda B: B.sum(1)),
    "reduction by columns": Case("x[j] = B[i,j]", lambda B: B.sum(0)),
    "reduction to a scalar": Case("x = B[i,j,k]", np.sum),
    "transposed": Case("X[j,i] = B[i,j] * c[j]", lambda B, c: (B * c).T),
    "broadcast": Case("X[i,j] = b[i] + C[i,j]", lambda b, C: b[:, None] + C),
    "two sums": Case("x[i] = B[i,j] * c[j] - D[i,k] * e[k]", lambda B, c, D, e: B @ c - D @ e, 3),
    "sum of a matrix and a vector": Case("x[i] = b[i] + C[i,j]", lambda b, C: b + C.sum(1), 2),
    "sum of five": Case(
        "X[i,j] = A[i,j] + B[i,j] - C[i,j] - D[i,j] + E[i,j]",
        lambda A, B, C, D, E: A + B - C - D + E,
        2,
    ),
    "product of sums": Case(
        "X[i,j] = (A[i,j] + B[i,j]) * (C[i,j] - D[i,j])",
        lambda A, B, C, D: (A + B) * (C - D),
        3,
    ),
    "product with a sum of three": Case(
        "X[i,j] = A[i,j] * (B[i,j] + C[i,j] + D[i,j])", lambda A, B, C, D: A * (B + C + D), 2
    ),
    "negative product": Case("x[i] = -B[i,j] * c[j] * d[i]", lambda B, c, d: -(B @ c) * d),
    "product in parentheses": Case(
        "x[i] = -(B[i,j] * c[j]) * d[i]", lambda B, c, d: -(B @ c) * d, 2
    ),
    "chain": Case("x = a[i] * B[i,j] * C[j,k] * d[k]", _einsum("i,ij,jk,k->"), 2),
    "chain of matrices": Case(
        "X[i,l] = A[i,j] * B[j,k] * C[k,l] * d[l]", _einsum("ij,jk,kl,l->il"), 2
    ),
    "MTTKRP of order 4": Case(
        "X[i,j] = B[i,k,l,m] * C[j,k] * D[j,l] * E[j,m]", _einsum("iklm,jk,jl,jm->ij"), 3
    ),
    "five loops": Case("X[a,b,e] = A[a,b,c,d,e] * B[c,d,b]", _einsum("abcde,cdb->abe")),
}
