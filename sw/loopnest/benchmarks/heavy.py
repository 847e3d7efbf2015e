"""A matrix with one full row, the first or the last one, times a vector.

The row is divided (`expression.virtual`), or stays whole: a masked product is not divided.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from .bounds import Unbounded
from .cases import SPMV, Case, spmv_case
from .matrices import SEED, nonzeros

SIZE = 40_000


def heavy_cases() -> Iterator[Case]:
    """Yield the product with the row at each end, divided and whole."""
    every = np.ones(SIZE)
    for place, row in (("first", 0), ("last", SIZE - 1)):
        case = replace(spmv_case("", _matrix(row)), bound=Unbounded())
        yield replace(case, name=f"heavy, {place} row")
        yield replace(
            case,
            name=f"heavy, {place} row whole",
            statement=f"{SPMV} where M[i]",
            operands={**case.operands, "M": every},
        )


def _matrix(row: int) -> sp.csr_array:
    """Return a matrix with two entries in each row: the diagonal and a column; one row is full."""
    rows = np.arange(SIZE)
    other = np.delete(rows, row)
    at = (
        np.concatenate([other, other, np.full(SIZE, row)]),
        np.concatenate([other, np.full(SIZE - 1, row), rows]),
    )
    values = nonzeros((len(at[0]),), np.random.default_rng(SEED))
    return sp.coo_array((values, at), shape=(SIZE, SIZE)).tocsr()
