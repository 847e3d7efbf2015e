"""Products with columns spread over a panel of 2^20, most of them empty; and a product of matrices
in which most rows are empty. The runtime leaves out columns without entries (`expression.compact`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from .bounds import OfRoof
from .cases import ROOF_SHARE, Case, product
from .matrices import SEED, load_matrix, matrix_names, nonzeros

COLUMNS = 1 << 20

MATRICES = ("lp_scsd1", "bips98_606", "rajat01", "wiki-Vote", "bcsstk13")
"""The matrices whose products are taken if none is named."""

HYPER_SPARSE = 100_000
"""Nonzeros of either factor of the other product."""

HYPER_SPARSE_SHARE = 0.8
"""The least share of the PE roof of that product."""


def spread_cases(folder: Path | None, wanted: Sequence[str]) -> Iterator[Case]:
    """Yield the products of the folder's matrices that are wanted, or of `MATRICES`, and then the
    one of hyper-sparse matrices.
    """
    chosen = wanted or MATRICES
    if folder is not None:
        for name in matrix_names(folder):
            if name in chosen:
                A = load_matrix(folder, name)
                B = spread(A if A.shape[0] == A.shape[1] else sp.csr_array(A.T))
                yield product(f"spread {name}", A, B, OfRoof(ROOF_SHARE))
    A, B = (_hyper_sparse(seed) for seed in range(2))
    yield product(f"hyper-sparse {COLUMNS:,}^2", A, B, OfRoof(HYPER_SPARSE_SHARE))


def spread(matrix: sp.csr_array) -> sp.csr_array:
    """Return a matrix, of at most `COLUMNS` columns, with these spread evenly over so many."""
    columns = matrix.indices.astype(np.int64) * (COLUMNS // matrix.shape[1])
    return sp.csr_array((matrix.data, columns, matrix.indptr), (matrix.shape[0], COLUMNS))


def _hyper_sparse(seed: int) -> sp.csr_array:
    """Return a matrix with entries at random."""
    rng = np.random.default_rng([SEED, seed])
    at = rng.integers(0, COLUMNS, (2, HYPER_SPARSE))
    pattern = sp.coo_array((np.ones(HYPER_SPARSE), tuple(at)), (COLUMNS, COLUMNS)).tocsr()
    pattern.data = nonzeros(pattern.nnz, rng)
    return pattern
