"""Kernels that keep several copies of a key, which the combiner adds."""

from contextlib import AbstractContextManager

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.kernel.lower import Kernel
from tests.rtl.chips import Pair, altered, on

PRODUCT = "C[i,j] = A[i,k] * B[k,j]"


def random_matrix(
    rng: np.random.Generator, rows: int, columns: int, density: float
) -> sp.csr_array:
    """Return a matrix of small integers, none of them 0."""

    def values(size: int) -> np.ndarray:
        return rng.integers(1, 6, size) * rng.choice([-1, 1], size)

    return sp.random_array((rows, columns), density=density, rng=rng, data_sampler=values).tocsr()


def copies(setting: int) -> AbstractContextManager[None]:
    """Select copies whether or not the runtime would."""

    def change(kernel: Kernel) -> dict[str, int]:
        assert kernel.fields["accumulate"]
        return {"copies": setting}

    return altered(change)


@on("shrunk/int8", "single/bf16")
@pytest.mark.parametrize("setting", [1, 2])
def test_product(pair: Pair, setting: int) -> None:
    """On `shrunk`, with further passes: a block's copies may be in two passes."""
    rng = np.random.default_rng(setting)
    A, B = random_matrix(rng, 20, 30, 0.3), random_matrix(rng, 30, 60, 0.1)
    with copies(setting):
        got = pair.run(PRODUCT, A=A, B=B, order="ikj")
    assert np.array_equal(got.toarray(), (A @ B).toarray())
    if pair.preset == "shrunk":
        assert pair.report.passes > 0 and pair.report.evictions > 0


@on("single/bf16")
@pytest.mark.parametrize("setting", [1, 2])
def test_rounding(pair: Pair, setting: int) -> None:
    """Sums that round: the order in which copies are added shows in the bits."""
    rng = np.random.default_rng(setting)
    A, B = random_matrix(rng, 12, 40, 0.5), random_matrix(rng, 40, 30, 0.5)
    for matrix in (A, B):
        matrix.data = matrix.data * 2.0 ** rng.integers(-20, 20, matrix.nnz)
    with copies(setting):
        pair.run(PRODUCT, A=A, B=B, order="ikj")
