"""The cost model against the chip: what it picks, and what it expects."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Memory
from loopnest.benchmarks.drawn import draw
from loopnest.benchmarks.picks import FACTOR, run_pick

from .chips import Pair, on

SEED = 2

COUNT = 5


@on("single/bf16")
def test_random_statements(pair: Pair) -> None:
    """The order picked is nearly the fastest, and takes about what is expected."""
    chip = pair.chip()
    for drawn in draw(chip, COUNT, SEED):
        pick = run_pick(chip, drawn)
        assert pick.right, pick
        assert pick.met, pick


@on("single/bf16")
@pytest.mark.parametrize("latency", [4, 100])
@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        pytest.param((4096, 200, 1000), 100, id="empty rows"),
        pytest.param((60, 200, 1 << 17), 50, id="wider than the accumulator's window"),
    ],
)
def test_hyper_sparse_products(
    pair: Pair, shape: tuple[int, int, int], filled: int, latency: int
) -> None:
    rng = np.random.default_rng(5)
    rows, inner, columns = shape
    i = rng.choice(rows, filled, replace=False)
    A = sp.csr_array((np.ones(filled), (i, rng.integers(0, inner, filled))), (rows, inner))
    k = np.repeat(np.arange(inner), 2)
    j = rng.integers(0, columns, len(k))
    B = sp.csr_array((np.ones(len(k)), (k, j)), (inner, columns))
    chip = pair.chip(Memory(latency=latency))
    statement = "C[i,j] = A[i,k] * B[k,j]"
    (plan,) = chip.explain(statement, A=A, B=B, order="ikj").plans
    assert (chip.compute(statement, A=A, B=B, order="ikj") != A @ B).nnz == 0
    assert chip.report is not None and chip.report.cycles is not None
    assert 1 / FACTOR < plan.cycles / chip.report.cycles < FACTOR
