"""In an intersection, blocks that cannot match are skipped as fast as their lines arrive."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.benchmarks.skipping import skipping_cases

from .chips import Pair, on


@on("single/bf16")
def test_the_inner_product_of_a_long_and_a_short_vector(pair: Pair) -> None:
    for case in skipping_cases():
        result = pair.run(case.statement, order=case.order, **case.operands)
        assert result == case.expected()
        limit = case.bound.cycles(4, pair.report.pe_roof, {})
        if limit is not None:
            assert pair.report.cycles <= limit


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_rows_that_share_few_columns(pair: Pair, share: float) -> None:
    """Intersections in an upper row and in the leaf, of fibers of very different lengths."""
    rng = np.random.default_rng(int(1000 * share))

    def some(shape: tuple[int, int], density: float) -> sp.csr_array:
        matrix = sp.random_array(shape, density=density, rng=rng, format="csr")
        matrix.data[:] = rng.integers(1, 4, matrix.nnz)
        return matrix

    A, B = some((6, 5000), share), some((4, 5000), 0.6)
    C = pair.run("C[i,j] = A[i,k] * B[j,k]", A=A, B=B, order="ijk")
    assert np.array_equal(C.toarray(), (A @ B.T).toarray())
    rare = some((300, 7), share)
    dense = some((300, 7), 0.7)
    C = pair.run("C[i,j] = A[i,j] * B[i,j]", A=rare, B=dense, order="ij")
    assert np.array_equal(C.toarray(), rare.toarray() * dense.toarray())
