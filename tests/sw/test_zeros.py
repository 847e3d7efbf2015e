"""Dense operands that are stored without their zeros, and those that may not be."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Memory
from tests.sw.pruned import forced, pruned

CASES = 100
MIN_STORED = 0.05
RNG = np.random.default_rng(0)
CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8")}


def array(*shape, zeros=0.8):
    return RNG.integers(1, 5, shape) * (RNG.random(shape) >= zeros)


@pytest.mark.parametrize(("dtype", "special"), [("int8", False), ("bf16", False), ("bf16", True)])
def test_results_are_those_of_dense_operands(dtype, special):
    chip = CHIPS[dtype]
    stored = 0
    for seed in range(CASES):
        statement, operands = pruned(seed, dtype, special=special)
        got = chip.compute(statement, **operands)
        stored += chip.report.stored != ()
        expected = chip.compute(statement, **forced(operands, dtype))
        assert chip.report.stored == ()
        assert isinstance(got, np.ndarray) and got.dtype == expected.values.dtype, seed
        np.testing.assert_array_equal(got, expected.to_dense(), f"{seed}: {statement}")
    assert stored > MIN_STORED * CASES


def test_a_pruned_layer_skips_its_zeros():
    W, X = array(64, 128), array(128, 16, zeros=0)
    chip = CHIPS["int8"]
    result = chip.matmul(W, X)
    assert isinstance(result, np.ndarray) and result.dtype == np.int32
    assert (result == W @ X).all()
    assert chip.report.multiplies == np.count_nonzero(W) * 16
    share = 100 * (1 - np.count_nonzero(W) / W.size)
    assert chip.report.stored == (f"A: {share:.3g} % zeros, stored dense,compressed",)
    assert f"{share:.3g} % zeros, stored dense,compressed" in str(chip.report)
    assert chip.report.stored[0] in str(chip.explain("Y[i,j] = A[i,k] * X[k,j]", A=W, X=X))


def test_few_zeros_do_not_pay():
    chip = CHIPS["int8"]
    W, X = array(64, 128, zeros=0.05), array(128, 16, zeros=0)
    chip.matmul(W, X)
    assert chip.report.stored == () and chip.report.multiplies == W.size * 16
    chip.matmul(array(64, 128, zeros=0.15), X)
    assert chip.report.stored != ()


def test_torch_weights():
    torch = pytest.importorskip("torch")
    W, X = array(64, 128) * 1.0, array(128, 16, zeros=0) * 1.0
    weights = torch.nn.Parameter(torch.from_numpy(W).float() * -1)
    result = CHIPS["bf16"].matmul(weights, torch.from_numpy(X))
    assert (result == -W @ X).all() and CHIPS["bf16"].report.stored != ()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e38, 1e39])
def test_a_zero_times_what_is_not_finite_is_nan(value):
    W, X = array(16, 64) * 1.0, array(64, 16, zeros=0) * 1.0
    X[3, 5] = value
    chip = CHIPS["bf16"]
    with np.errstate(invalid="ignore", over="ignore"):
        expected = W @ X.astype(np.float32)
    got = chip.matmul(W, X)
    assert (np.isnan(got) == np.isnan(expected)).all()
    assert chip.report.stored == ()


def test_products_that_overflow_keep_their_nan():
    zeros, large = np.zeros(64), np.full(64, 1e30)
    got = CHIPS["bf16"].compute("y[i] = a[i] * (b[i] * c[i])", a=zeros, b=large, c=large)
    assert np.isnan(got).all() and CHIPS["bf16"].report.stored == ()


def test_a_zero_is_a_distance():
    chip = CHIPS["bf16"]
    D = np.where(RNG.random((40, 40)) < 0.7, 0.0, 3.0)
    product = "Y[i,j] = D[i,k] * D[k,j]"
    got = chip.compute(product, D=D, semiring="min_plus")
    assert (got == (D[:, :, None] + D[None]).min(1)).all() and chip.report.stored == ()
    D[RNG.random(D.shape) < 0.9] = np.inf
    got = chip.compute(product, D=D, semiring="min_plus")
    assert (got == (D[:, :, None] + D[None]).min(1)).all() and chip.report.stored != ()
    D[3, 3] = -np.inf  # inf - inf is not a number
    got = chip.compute(product, D=D, semiring="min_plus")
    assert np.isnan(got[3]).any() and chip.report.stored == ()


def test_counting_semirings_count_zeros():
    W = array(32, 64)
    ones = np.ones((64, 16))
    chip = CHIPS["int8"]
    assert (chip.matmul(W, ones, semiring="plus_pair") == 64).all()
    assert (chip.matmul(W, ones, semiring="or_and") == (W.sum(1, keepdims=True) > 0)).all()
    assert chip.report.stored != ()


def test_a_compressed_result_has_the_pattern_of_dense_operands():
    W, X = array(16, 64), array(64, 16, zeros=0)
    chip = CHIPS["int8"]
    result = chip.matmul(W, X, out="dense,compressed")
    assert sp.issparse(result) and result.nnz == 16 * 16 and chip.report.stored == ()
    # an epilogue drops zeros, wherever they are from
    for bias in (0, 1):
        result = chip.matmul(W, X, out="dense,compressed", epilogue=Epilogue(bias=bias))
        assert (result.toarray() == W @ X + bias).all()
        assert result.nnz == np.count_nonzero(W @ X + bias)
        assert chip.report.stored != ()


def test_an_order_takes_the_same_storage_with_any_memory():
    W, x = array(16, 64, zeros=0.3) * 1.0, array(64, zeros=0) * 1.0
    found = set()
    for latency in (1, 100, 1000):
        chip = Chip(memory=Memory(latency=latency), backend="model")
        chip.compute("y[i] = W[i,k] * x[k]", W=W, x=x, order="ik")
        found.add(chip.report.stored)
    assert len(found) == 1


@pytest.mark.parametrize("copies", [0, 1])
def test_sums_through_the_accumulator_are_the_same_bits_where_it_has_no_copies(copies, monkeypatch):
    monkeypatch.setattr("loopnest.kernel.lower.choose_copies", lambda *arguments: copies)
    W, X = RNG.normal(size=(24, 64)) * array(24, 64), RNG.normal(size=(64, 20))
    operands = {"W": W, "X": X}
    chip, product = CHIPS["bf16"], "Y[i,j] = W[i,k] * X[k,j]"
    got = chip.compute(product, order="ikj", **operands)
    assert chip.report.stored != ()
    expected = chip.compute(product, order="ikj", **forced(operands, "bf16")).to_dense()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert (got == expected).all() == (copies == 0)


def test_bsr_blocks_are_not_stored_with_their_padding():
    W = array(32, 64)
    blocks = sp.bsr_array(W, blocksize=(4, 4))
    assert blocks.nnz > np.count_nonzero(W)
    chip = CHIPS["int8"]
    assert (chip.matmul(blocks, np.ones(64)) == W.sum(1)).all()
    assert chip.report.multiplies == np.count_nonzero(W)
    torch = pytest.importorskip("torch")
    for layout in (torch.sparse_bsr, torch.sparse_bsc):
        dense = torch.from_numpy(W)
        tensor = dense.to_sparse(layout=layout, blocksize=(4, 4))
        assert (chip.matmul(tensor, np.ones(64)) == W.sum(1)).all()
        assert chip.report.multiplies == np.count_nonzero(W)


@pytest.mark.parametrize("kind", [np.float16, ">f2", ">f4", ">f8", ">i4"])
def test_types_that_scipy_does_not_store(kind):
    x = np.array([0, 1, 0, 3], kind)
    for chip in CHIPS.values():
        assert chip.compute("y[i] = x[i]", x=x).tolist() == [0, 1, 0, 3]
