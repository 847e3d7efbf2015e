"""Heavy rows on several PEs: the bits of one, and fewer cycles than whole rows take."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Chip
from loopnest.expression import virtual
from loopnest.program.start import Start
from tests.rtl.chips import QUICK, SEVERAL, Bits, Pair, on, simulator

ROWS = 16_001
SPMV = "y[i] = A[i,j] * x[j]"


def matrix(heavy: list[int], columns: int = 2 * ROWS) -> sp.csr_array:
    """Return a matrix of an entry in each row, and a third of all in heavy ones."""
    rng = np.random.default_rng(1)
    row = np.concatenate([np.arange(ROWS), np.repeat(heavy, columns // 3)])
    at = [rng.permutation(columns)[: columns // 3] for _ in heavy]
    column = np.concatenate([rng.integers(0, columns, ROWS), *at])
    array = sp.coo_array((np.ones(len(row)), (row, column)), (ROWS, columns)).tocsr()
    array.data = rng.integers(1, 4, array.nnz)
    return array


@on("shrunk/int8", SEVERAL)
@pytest.mark.parametrize("heavy", [[0, 1, ROWS - 1], [700]])
def test_products(pair: Pair, heavy: list[int]) -> None:
    A = matrix(heavy)
    rng = np.random.default_rng(2)
    x = rng.integers(1, 4, A.shape[1])
    y = pair.run(SPMV, A=A, x=x)
    assert np.array_equal(y, A @ x) and "heavy row" in pair.report.stored[0]
    X = rng.integers(1, 4, (A.shape[1], 2))
    Y = pair.run("Y[i,k] = A[i,j] * X[j,k]", A=A, X=X, order="ijk")
    assert np.array_equal(Y, A @ X) and "heavy row" in pair.report.stored[0]
    for statement, operands in ((SPMV, {"x": x}), ("Y[i,k] = A[i,j] * X[j,k]", {"X": X})):
        alone = Chip("shrunk", dtype=pair.dtype, backend="model", memory=QUICK)
        several = pair.model.compute(statement, A=A, **operands)
        assert Bits(several) == Bits(alone.compute(statement, A=A, **operands))


@on(SEVERAL)
def test_a_program_in_one_start(pair: Pair) -> None:
    A = matrix([3])
    x = np.random.default_rng(2).integers(1, 4, A.shape[1])
    program = loopnest.compile(
        [SPMV, "s = y[i] * w[i]"], {"A": A, "x": x, "w": np.ones(ROWS)}, chip=pair.chip()
    )
    assert [type(stage) for stage in program.contents.stages] == [Start]
    for v in (x, 4 - x):
        assert program.run(x=v)["s"] == (A @ v).sum()
    assert not simulator(pair.chip()).violations


@on(SEVERAL)
def test_the_last_row_does_not_keep_one_pe_busy(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, the heaviest row takes one PE longer than the others take for all rows before it."""
    A = matrix([ROWS - 1])
    x = np.random.default_rng(2).integers(1, 4, A.shape[1])
    pair.run(SPMV, A=A, x=x)
    cycles = pair.report.cycles
    monkeypatch.setattr(virtual, "MIN_WEIGHT", 1 << 30)
    pair.run(SPMV, A=A, x=x)
    assert not pair.report.stored and cycles < 0.9 * pair.report.cycles
