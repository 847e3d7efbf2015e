"""Programs without a zero, to compare what zeros save."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue, Tensor
from loopnest.program.filled import filled

CHIPS = {dtype: Chip("single", dtype=dtype, backend="model") for dtype in ("int8", "bf16")}

A = sp.random_array((12, 10), density=0.2, format="csr", rng=np.random.default_rng(1))
A.data = np.ceil(4 * A.data)


def test_filled() -> None:
    assert filled(np.array([0, -3, 2, 0])).tolist() == [2, -3, 2, 2]
    assert filled(np.zeros((2, 2), np.int8)).tolist() == [[1, 1], [1, 1]]
    assert filled(np.array([0, 0.25], np.float32)).dtype == np.float32
    assert filled(np.array([True, False])).all()


@pytest.mark.parametrize("dtype", CHIPS)
def test_all_is_multiplied(dtype: str) -> None:
    """Of inputs, activations, and wide tensors; the program itself stays as it is."""
    relu = Epilogue(scale=0.25, relu=True, out="narrow")
    h = Assignment(
        statement="h[n,o] = X[n,i] * A[i,o]", out="dense,compressed", epilogue=relu, order="nio"
    )
    steps = [h, "z[n,o] = S[o] * h[n,o]", "y[n,k] = h[n,o] * B[o,k]"]
    x = sp.csr_array(np.eye(6, 12))
    wide = Tensor.from_dense(np.arange(10), dtype=dtype, wide=True)
    inputs = {"X": x, "A": A, "S": wide, "B": np.eye(10, 8)}
    program = loopnest.compile(steps, inputs, chip=CHIPS[dtype])
    before = program()
    multiplies = program.report.multiplies  # type: ignore[union-attr]
    without = program.dense()
    assert without.inputs == program.inputs and without.results == program.results
    without()
    found = {name: report.multiplies for name, report in without.layers.items()}
    assert found == {"h": 6 * 12 * 10, "z": 6 * 10, "y": 6 * 10 * 8}
    assert sum(found.values()) > 2 * multiplies
    after = program()
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(*(x.toarray() if sp.issparse(x) else x for x in (one, other)))


@pytest.mark.parametrize(("mask", "share"), [("M[i,k]", 1.0), ("~M[i,k]", 0.75)])
def test_masks(mask: str, share: float) -> None:
    """A mask keeps all; the entries that a complement leaves out stay."""
    m = np.zeros((12, 12))
    m[::2, ::2] = 1
    where = mask.replace("~", "not ")
    program = loopnest.compile(
        f"C[i,k] = A[i,j] * B[j,k] where {where}",
        {"A": A, "B": A.T.tocsr(), "M": sp.csr_array(m)},
        chip=CHIPS["int8"],
    )
    without = program.dense()
    without()
    assert without.report is not None
    assert without.report.multiplies == share * 12 * 12 * 10
