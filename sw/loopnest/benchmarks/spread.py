"""Products with columns spread over a panel of 2^20, so that each entry of a row is in a block of
its own; and a product of matrices in which most rows are empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from loopnest_hw.config import LANES, ChipConfig

from .bounds import LATENCIES, Bound, OfRoof
from .cases import ROOF_SHARE, Case, product
from .matrices import SEED, load_matrix, matrix_names, nonzeros

COLUMNS = 1 << 20

MATRICES = ("lp_scsd1", "bips98_606", "rajat01", "wiki-Vote", "bcsstk13")
"""The matrices whose products are taken if none is named."""

HYPER_SPARSE = 100_000
"""Nonzeros of either factor of the other product."""

HYPER_SPARSE_SHARE = 0.8


@dataclass(frozen=True)
class OfPasses(Bound):
    """A share of the PE roof of so many passes, on average, at the shorter latency."""

    share: float
    passes: float

    def cycles(self, latency: int, roof: int, measured: Mapping[str, int]) -> float | None:
        return self.passes * roof / self.share if latency == LATENCIES[0] else None


def spread_cases(config: ChipConfig, folder: Path | None, wanted: Sequence[str]) -> Iterator[Case]:
    """Yield the products of the folder's matrices that are wanted, or of `MATRICES`, and then the
    one of hyper-sparse matrices.
    """
    chosen = wanted or MATRICES
    matrices = (
        []
        if folder is None
        else [(name, load_matrix(folder, name)) for name in matrix_names(folder) if name in chosen]
    )
    for name, A in matrices:
        B = spread(A if A.shape[0] == A.shape[1] else sp.csr_array(A.T))
        blocks, steps = result_blocks(A, B)
        passes = np.maximum(1, -(-blocks // config.slots))
        bound: Bound = OfRoof(ROOF_SHARE)
        if passes.max() > 1:
            bound = OfPasses(ROOF_SHARE, float(np.average(passes, weights=steps)))
        yield product(f"spread {name}", A, B, bound)
    A, B = (_hyper_sparse(seed) for seed in range(2))
    bound = OfPasses(HYPER_SPARSE_SHARE, 1)
    yield product(f"hyper-sparse {COLUMNS:,}^2", A, B, bound)


def spread(matrix: sp.csr_array) -> sp.csr_array:
    """Return a matrix with its columns spread evenly over `COLUMNS`."""
    columns = matrix.indices.astype(np.int64) * (COLUMNS // matrix.shape[1])
    return sp.csr_array((matrix.data, columns, matrix.indptr), (matrix.shape[0], COLUMNS))


def result_blocks(A: sp.csr_array, B: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return, of each row of a product, the number of its blocks and of its multiplies."""
    rows, columns = B.nonzero()
    blocks = sp.csr_array((np.ones(len(rows)), (rows, columns // LANES)))
    ones = sp.csr_array((np.ones(A.nnz), A.indices, A.indptr), A.shape)
    blocks.resize(A.shape[1], blocks.shape[1])
    return np.diff((ones @ blocks).indptr), ones @ np.diff(B.indptr)


def _hyper_sparse(seed: int) -> sp.csr_array:
    """Return a matrix with entries at random."""
    rng = np.random.default_rng([SEED, seed])
    at = rng.integers(0, COLUMNS, (2, HYPER_SPARSE))
    pattern = sp.coo_array((np.ones(HYPER_SPARSE), tuple(at)), (COLUMNS, COLUMNS)).tocsr()
    pattern.data = nonzeros(pattern.nnz, rng)
    return pattern
