"""Operands larger than a panel: a product with a vector, a hyper-sparse one, and a table of which a
thousand rows are gathered.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from .bounds import Bound, Unbounded
from .cases import MATMUL, SPMV, Case
from .matrices import SEED, nonzeros

SIZES = ("wide-spmv", "wide-spgemm", "wide-gather")
"""Names of the cases, which run only if they are named: minutes each."""

SHARE = 0.6
"""Of the PE roof over all kernels."""

GATHER = "Y[b,d] = S[b,r] * T[r,d]"

SCALE = 1
"""Divisor of sizes and entries."""


@dataclass(frozen=True)
class OfRoofs(Bound):
    """A share of the PE roof of several kernels, at every latency."""

    share: float

    def cycles(self, latency: int, roof: int, measured: object) -> float:
        return roof / self.share


def size_cases(names: Sequence[str]) -> Iterator[Case]:
    """Yield the cases of these names."""
    rng = np.random.default_rng(SEED)
    if "wide-spmv" in names:
        A = _drawn(3_000_000, 6_000_000, rng)
        x = nonzeros(A.shape[1], rng)
        yield _product("wide-spmv", SPMV, {"A": A, "x": x})
    if "wide-spgemm" in names:
        A, B = (_drawn(4_000_000, 1_000_000, rng) for _ in range(2))
        yield _product("wide-spgemm", MATMUL, {"A": A, "B": B})
    if "wide-gather" in names:
        table = rng.integers(-100, 100, (10_000_000 // SCALE, 16)).astype(np.int8)
        rows = rng.integers(0, len(table), 1000)
        at = np.arange(1000), rows
        chosen = sp.coo_array((np.ones(1000), at), (1000, len(table)))
        yield Case(
            name="wide-gather",
            statement=GATHER,
            order=None,
            operands={"S": chosen, "T": table},
            expected=lambda: table[rows],
            bound=Unbounded(),
        )


def _product(name: str, statement: str, operands: dict[str, Any]) -> Case:
    """Return the product of two operands."""
    first, second = operands.values()
    return Case(
        name=name,
        statement=statement,
        order=None,
        operands=operands,
        expected=lambda: first @ second,
        bound=OfRoofs(SHARE),
    )


def _drawn(size: int, entries: int, rng: np.random.Generator) -> sp.csr_array:
    """Return a square matrix with entries at random."""
    at = rng.integers(0, size // SCALE, (2, entries // SCALE))
    pattern = sp.coo_array((np.ones(at.shape[1]), tuple(at)), (size // SCALE,) * 2).tocsr()
    pattern.data = nonzeros(pattern.nnz, rng)
    return pattern
