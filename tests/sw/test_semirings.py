"""Semirings on the golden model, against NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Tensor
from loopnest.expression.semiring import SEMIRINGS
from tests.sw.semirings import CASES, clipped, product, random_matrix, stored

CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8")}


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("name", SEMIRINGS)
@pytest.mark.parametrize("order", ["ikj", "ijk", "kij"])
def test_products(name: str, dtype: str, order: str) -> None:
    """Compressed, dense, and a vector; structure and values."""
    rng = np.random.default_rng(1)
    chip = CHIPS[dtype]
    a, b = random_matrix(rng, (33, 40)), random_matrix(rng, (40, 37))
    expected, has = product(name, a, b)
    assert 0 < has.sum() < has.size
    got = chip.einsum("ik,kj->ij", a, b, order=order, semiring=name)
    values, stores = stored(got)
    np.testing.assert_array_equal(stores, has)
    np.testing.assert_array_equal(values, np.where(has, expected, 0))
    dense = chip.einsum("ik,kj->ij", a, b, order=order, semiring=name, out="dense,dense")
    np.testing.assert_array_equal(dense, clipped(expected, dtype))


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("name", SEMIRINGS)
def test_vector(name: str, dtype: str) -> None:
    """A dense vector: all of it is stored, zeros too. Row 0 has no terms."""
    rng = np.random.default_rng(2)
    a = random_matrix(rng, (30, 40))
    a.data[a.indptr[0] : a.indptr[1]] = 0
    a = sp.csr_array(sp.vstack([sp.csr_array((1, 40)), a]))
    x = rng.integers(-5, 6, 40)
    expected, has = product(name, a, x[:, None])
    assert not has[0]
    y = CHIPS[dtype].matmul(a, x, semiring=name)
    np.testing.assert_array_equal(y, clipped(expected[:, 0], dtype))


@pytest.mark.parametrize(("name", "pick"), [("min_plus", np.minimum), ("max_times", np.maximum)])
def test_union(name: str, pick: np.ufunc) -> None:
    """A sum of matrices takes the entry that is present, or the minimum or maximum of both."""
    rng = np.random.default_rng(3)
    a, b = random_matrix(rng, (20, 50)), random_matrix(rng, (20, 50))
    (x, has_x), (y, has_y) = stored(a), stored(b)
    zero = CASES[name].zero
    expected = pick(np.where(has_x, x, zero), np.where(has_y, y, zero))
    got, has = stored(CHIPS["bf16"].compute("C[i,j] = A[i,j] + B[i,j]", A=a, B=b, semiring=name))
    np.testing.assert_array_equal(has, has_x | has_y)
    np.testing.assert_array_equal(np.where(has, got, zero), expected)


@pytest.mark.parametrize("dtype", CHIPS)
@pytest.mark.parametrize("there", [False, True])
def test_a_part_without_terms(there: bool, dtype: str) -> None:
    """An intermediate that is summed over all of its indices is absent if it has no terms."""
    zero = CASES["min_plus"].zero
    a = sp.coo_array([3.0 * there, 0, 0])
    b, c = sp.coo_array([0, 5, 0]), sp.coo_array([2])
    a.eliminate_zeros()
    total = CHIPS[dtype].compute("y[i] = A[k] + B[i]", A=a, B=b, semiring="min_plus")
    values, stores = stored(total)
    np.testing.assert_array_equal(stores, [there, True, there])
    expected = [3, 3, 3] if there else [zero, 5, zero]
    np.testing.assert_array_equal(np.where(stores, values, zero), expected)
    text = "y[i] = A[k] * B[i] * C[l] * D[m]"
    product = CHIPS[dtype].compute(text, A=a, B=b, C=c, D=c, semiring="min_plus")
    values, stores = stored(product)
    np.testing.assert_array_equal(stores, [False, there, False])
    np.testing.assert_array_equal(values, [0, 3 + 5 + 2 + 2 if there else 0, 0])


def test_split() -> None:
    """Several kernels, with wide sums between them: the shortest way of four edges."""
    rng = np.random.default_rng(4)
    a = random_matrix(rng, (25, 25), 0.15)
    two, has = product("min_plus", a, a)
    # a sum of 0 is also a term
    ways = sp.coo_array((two[has], np.nonzero(has)), a.shape)
    four, reached = product("min_plus", ways, ways)
    chip = CHIPS["bf16"]
    text = "E[i,m] = A[i,j] * A[j,k] * A[k,l] * A[l,m]"
    assert len(chip.explain(text, A=a, semiring="min_plus").plans) > 1
    values, stores = stored(chip.compute(text, A=a, semiring="min_plus"))
    np.testing.assert_array_equal(stores, reached)
    np.testing.assert_array_equal(values[stores], four[reached])


@pytest.mark.parametrize("name", ["plus_first", "plus_second"])
def test_wide(name: str) -> None:
    """A wide factor whose values are used loses no bit; an unused one may be wide, too."""
    rng = np.random.default_rng(5)
    a, b = random_matrix(rng, (12, 9), 0.5), random_matrix(rng, (9, 14), 0.5)
    a.data, b.data = a.data * 4097, b.data * 4099
    wide = [Tensor.from_scipy(x, dtype="int8", wide=True) for x in (a, b)]
    got = CHIPS["int8"].einsum("ik,kj->ij", *wide, semiring=name)
    expected, has = product(name, a, b)
    np.testing.assert_array_equal(got.to_dense(), np.where(has, expected, 0))


@pytest.mark.parametrize(("name", "expected"), [("plus_first", 0), ("plus_second", 1)])
def test_a_tensor_beside_a_view_of_it(name: str, expected: int) -> None:
    """One factor counts as 1, so it is a separate tensor, but still a view of the same one."""
    x = np.arange(1.0, 9.0)
    got = CHIPS["bf16"].compute("y[i] = x[i] * x[i+1]", x=x, semiring=name)
    np.testing.assert_array_equal(got, x[expected : expected + 7])


def test_mask_and_semiring() -> None:
    """Triangles: the pairs of neighbours' matches, where there is an edge."""
    rng = np.random.default_rng(6)
    upper = sp.triu(sp.random_array((30, 30), density=0.3, rng=rng), 1)
    edges = sp.csr_array(upper + upper.T)
    chip = CHIPS["int8"]
    edges.data[:] = 1
    got = chip.matmul(edges, edges, mask=edges, semiring="plus_pair")
    expected = (edges @ edges).toarray() * edges.toarray()
    np.testing.assert_array_equal(got.toarray(), expected)


@pytest.mark.parametrize("out", ["dense,dense", "dense,compressed"])
def test_fused(out: str) -> None:
    """More loops than rows: elements without terms stay absent when the fused loops are
    separated.
    """
    a, b = sp.coo_array(np.zeros((2, 2, 2, 2))), sp.coo_array(np.zeros((2, 2, 2, 3)))
    a = sp.coo_array(([5.0], ([0], [1], [0], [1])), a.shape)
    b = sp.coo_array(([2.0], ([1], [0], [1], [2])), b.shape)
    text = "X[i,m] = A[i,j,k,l] * B[j,k,l,m]"
    got = CHIPS["bf16"].compute(text, A=a, B=b, out=out, semiring="min_plus")
    values, has = stored(got)
    expected = np.full((2, 3), np.inf)
    expected[0, 2] = 7
    if out == "dense,dense":
        np.testing.assert_array_equal(values, expected)
    else:
        np.testing.assert_array_equal(has, np.isfinite(expected))
        assert values[0, 2] == 7
    zeros = CHIPS["bf16"].compute(
        text, A=np.zeros(a.shape), B=np.zeros(b.shape), out="dense,compressed", semiring="min_plus"
    )
    assert zeros.nnz == 6


@pytest.mark.parametrize("kind", ["lil", "dok", "dia", "bsr", "coo"])
def test_formats(kind: str) -> None:
    """Patterns of any of SciPy's formats."""
    a = random_matrix(np.random.default_rng(8), (16, 16))
    expected, _ = product("or_and", a, a)
    given = a.asformat(kind)
    got = CHIPS["int8"].matmul(given, given, semiring="or_and")
    np.testing.assert_array_equal(got.toarray(), expected)


def test_names() -> None:
    """An operand may have any name, and be the mask as well."""
    a = sp.csr_array(np.array([[2, 0, 3], [0, 5, 0]]))
    chip = CHIPS["bf16"]
    got = chip.compute("X[i,j] = A[i,j] where A[i,j]", A=a)
    np.testing.assert_array_equal(got.toarray(), a.toarray())
    threes, sevens = np.full((2, 2), 3), np.full((2, 2), 7)
    text = "X[i,j] = pattern_A[i,k] * A[k,j]"
    got = chip.compute(text, A=sevens, pattern_A=threes, semiring="plus_first")
    np.testing.assert_array_equal(got, np.full((2, 2), 6))


def test_errors() -> None:
    chip = CHIPS["bf16"]
    x = np.ones(3)
    m = sp.csr_array(np.eye(3))
    with pytest.raises(ValueError, match="expected the compressed levels innermost"):
        chip.matmul(m, m, out="compressed,dense", semiring="min_plus")
    with pytest.raises(ValueError, match="epilogue: a compressed result loses what becomes 0"):
        chip.matmul(m, m, epilogue=Epilogue(scale=2.0), semiring="min_plus")
    with pytest.raises(ValueError, match="'tropical': expected one of plus_times, min_plus"):
        chip.einsum("i,i->", x, x, semiring="tropical")
    with pytest.raises(ValueError, match="the semiring min_plus has no subtraction"):
        chip.compute("z[i] = x[i] - y[i]", x=x, y=x, semiring="min_plus")
