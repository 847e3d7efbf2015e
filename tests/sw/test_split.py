"""Statements of any size: one kernel if possible, otherwise several, with the same result."""

import re
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from loopnest import Chip, ChipError, Epilogue, Tensor
from tests.fuzz import cases
from tests.fuzz.cases import Given
from tests.fuzz.expressions import compare
from tests.sw.expressions import MORE, SAM, Case
from tests.sw.tensors import arrays

INT8, BF16 = (Chip(dtype=dtype, backend="model") for dtype in ("int8", "bf16"))
SIZES = st.sampled_from([1, 2, 3, 5, 17])


def operands(case: Case, draw: Any, size: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return operands for a chip and for NumPy: capitals are compressed."""
    sizes = {i: draw(size) for i in sorted(set("".join(case.operands.values())))}
    given_, plain = {}, []
    for name, indices in case.operands.items():
        array = draw(arrays(tuple(sizes[i] for i in indices), low=-4, high=4))
        plain.append(array)
        given_[name] = sp.coo_array(array) if name.isupper() else array
    return given_, plain


def dense(result: Any) -> Any:
    return result.toarray() if sp.issparse(result) else np.asarray(result)


@settings(max_examples=8, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", [*SAM, *MORE])
def test_against_numpy(name, data):
    case = (SAM | MORE)[name]
    size = st.sampled_from([1, 2, 3]) if len(case.operands) > 3 else SIZES
    given_, plain = operands(case, data.draw, size)
    expected = case.reference(*plain)
    # planning many factors takes long, and is the same for both
    chips = (INT8, BF16) if len(case.operands) < 4 else (data.draw(st.sampled_from([INT8, BF16])),)
    for chip in chips:
        got = chip.compute(case.statement, **given_)
        np.testing.assert_array_equal(dense(got), expected)
        report = chip.report
        kernels, operators = report.order.count(",") + 1, len(re.findall("[-+*]", case.statement))
        assert kernels <= operators if case.regrouped else kernels == case.kernels
        assert report.statement.startswith(case.statement[:4])


def test_parts_are_wide_and_the_epilogue_comes_last():
    b, C = np.array([100, 0, -3]), sp.csr_array(np.full((3, 40), 30))
    d = np.full(40, 100)
    # the part C d leaves int8 by far
    got = INT8.compute(
        "x[i] = b[i] - C[i,j] * d[j]", b=b, C=C, d=d, epilogue=Epilogue(bias=120_000, out="narrow")
    )
    np.testing.assert_array_equal(got, [100, 0, -3])


def test_an_order_holds_for_every_kernel():
    a = sp.csr_array(np.eye(3))
    INT8.compute("X[i,l] = A[i,j] * B[j,k] * C[k,l] * D[l,i]", A=a, B=a, C=a, D=a, order="lkji")
    assert INT8.report.order == "kji,lki"
    with pytest.raises(ValueError, match="order 'lkj': expected the indices i, l, j, k, each once"):
        INT8.compute("X[i,l] = A[i,j] * B[j,k] * C[k,l]", A=a, B=a, C=a, order="lkj")


def test_a_report_of_several_kernels():
    B, C = sp.csr_array(np.eye(4)), sp.csr_array(np.ones((4, 4)))
    d, e = np.ones(4), np.ones(4)
    text = "x[i] = B[i,j] * d[j] - C[i,j] * e[j]"
    INT8.compute(text, B=B, C=C, d=d, e=e)
    report = INT8.report
    assert report.multiplies == 4 + 16 + 4 and report.cycles is None
    single = []
    for matrix, vector in ((B, d), (C, e)):
        INT8.compute("y[i] = A[i,j] * x[j]", A=matrix, x=vector)
        single.append(INT8.report)
    INT8.compute("z[i] = x[i] - y[i]", x=d, y=e)
    assert report.pe_roof == sum(r.pe_roof for r in single) + INT8.report.pe_roof


def test_a_bias_for_each_element_is_not_fused():
    """Its shape is the result's: on fused indices it would go to others."""
    A, B = np.ones((2, 3, 2, 3, 2)), np.ones((2, 3, 3))
    text = "X[a,e,b] = A[a,b,c,d,e] * B[c,d,b]"
    got = INT8.compute(text, A=A, B=B, epilogue=Epilogue(bias=5))
    np.testing.assert_array_equal(got, np.full((2, 2, 3), 11))
    got = INT8.compute(text, A=A, B=B, epilogue=Epilogue(bias=np.arange(3)))
    np.testing.assert_array_equal(got, np.full((2, 2, 3), 6) + np.arange(3))


SLICED = {
    # indices of one factor only are summed first; two sums would be two wide factors
    "X[a,d,c] = A[a,b,c,e] * B[d,b,c,f]": ((3, 4, 2, 3), (5, 4, 2, 6)),
    # windows are not fused: slices along a summed index, and along one that is not
    "X[i,j,k] = A[i+r,j+s] * B[r,s,k]": ((6, 7), (3, 2, 4)),
    "X[i,j] = A[i+2*j,j] + B[i]": ((9, 3), (5,)),
}


@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("text", SLICED)
@pytest.mark.parametrize("semiring", ["plus_times", "min_plus"])
def test_more_loops_than_rows(text, rows, semiring):
    rng = np.random.default_rng(2)
    chip = Chip(dtype="int8", backend="model", rows=rows)
    kind = "array" if "+" in text else "coo"
    arrays = (rng.integers(1, 5, shape) * (rng.random(shape) < 0.8) for shape in SLICED[text])
    operands = {name: Given(array, kind) for name, array in zip("AB", arrays, strict=True)}
    case = cases.Case("int8", text, operands, semiring=semiring)
    compare(case, chip.compute(text, **case.arguments()))
    assert all(len(kernel.plan.loops) <= rows for kernel in chip.report._kernels)


def test_a_result_that_the_accumulator_does_not_hold():
    """In an order that allows no further passes it is computed in halves, but only up to a
    limit.
    """
    rng = np.random.default_rng(3)
    A, B = (rng.integers(-3, 4, (20, 20)) * (rng.random((20, 20)) < 0.4) for _ in "AB")
    chip = Chip("shrunk", dtype="int8", backend="model")
    for out in ("dense,dense", "dense,compressed"):
        got = chip.einsum("ik,kj->ij", sp.csr_array(A), sp.csr_array(B), order="kij", out=out)
        np.testing.assert_array_equal(dense(got), A @ B)
        assert 8 <= len(chip.report._kernels) <= 32
    large = sp.csr_array(np.ones((100, 100)))
    with pytest.raises(ChipError, match="SLOTS"):
        chip.einsum("ik,kj->ij", large, large, order="kij")


@pytest.mark.parametrize("order", ["kij", "kji"])
@pytest.mark.parametrize("text", ["C[i,j] = A[i,k] * A[k,j]", "C[i,j] = A[k,i] * A[k,j]"])
def test_slices_of_a_tensor_with_several_accesses(text, order):
    A = np.random.default_rng(0).integers(-2, 3, (20, 20))
    chip = Chip("shrunk", dtype="int8", backend="model")
    got = chip.compute(text, order=order, A=sp.csr_array(A))
    assert chip.report.order.count(order) > 1
    np.testing.assert_array_equal(dense(got), (A.T if "k,i" in text else A) @ A)


@pytest.mark.parametrize(
    "text",
    ["C[a,b,c] = T[a,b,c,d,e] * T[c,b,a,d,e]", "C[a] = T[a,b,c,d,e] * T[a,c,b,d,e]",
     "C = T[a,b,c,d,e] * T[b,a,d,c,e]"],
)  # fmt: skip
def test_fused_indices_of_a_tensor_with_several_accesses(text):
    T = np.random.default_rng(0).integers(-2, 3, (3,) * 5)
    subscripts = ",".join(re.findall(r"T\[([^]]*)\]", text)).replace(",", "")
    result = "".join(re.findall(r"C\[([^]]*)\]", text)).replace(",", "")
    expected = np.einsum(f"{subscripts[:5]},{subscripts[5:]}->{result}", T, T)
    np.testing.assert_array_equal(INT8.compute(text, T=T), expected)


def test_statements_that_are_refused():
    a = Tensor.from_dense(np.ones((3, 3)), dtype="int8")
    wide = INT8.matmul(a, a)
    with pytest.raises(ValueError, match="at most one wide factor"):
        INT8.compute("C[i,j] = A[i,k] * B[k,j]", A=wide, B=wide)


@pytest.mark.parametrize("text", ["y = (A[i] + b) * (C[j] + d)", "y = (C[j] + d) * (A[i] + b)"])
def test_a_product_of_sums_is_summed_over_the_indices_of_both(text):
    """Multiplied out, each product has fewer of them."""
    a, c = np.array([1, 2]), np.array([1, 0, 3])
    got = INT8.compute(text, A=a, b=2, C=c, d=3)
    assert got == (a + 2).sum() * (c + 3).sum()
    empty = INT8.compute(text, A=a, b=2, C=np.zeros(0), d=3)
    assert empty == 0


def test_what_a_sum_within_a_product_ranges_over():
    """Over all indices of the product, not those of its own terms alone."""
    rng = np.random.default_rng(5)
    A, (b, c), d = rng.integers(-3, 4, (4, 6)), rng.integers(-3, 4, (2, 4)), rng.integers(-3, 4, 6)
    got = INT8.compute("a[i] = b[i] * (c[i] + A[i,j] * d[j])", A=A, b=b, c=c, d=d)
    np.testing.assert_array_equal(got, b * (6 * c + A @ d))
    got = INT8.compute("a[i] = b[i] * c[i] + b[i] * A[i,j] * d[j]", A=A, b=b, c=c, d=d)
    np.testing.assert_array_equal(got, b * (c + A @ d))


def test_a_sum_beside_a_wide_factor_is_summed_over_all_its_indices():
    c, e, f = np.array([[1, 2, 0]]), np.array([4]), np.array([5])
    wide = Tensor.from_dense(f, dtype="int8", wide=True)
    for factor in (f, wide):
        got = INT8.compute("y[i] = (C[i,k] + E[i]) * F[i]", C=c, E=e, F=factor)
        got = got.to_dense() if isinstance(got, Tensor) else got
        np.testing.assert_array_equal(got, [(1 + 2 + 3 * 4) * 5])


def test_a_sum_within_a_product_of_more_indices_than_a_tensor_has_modes():
    rng = np.random.default_rng(1)
    A, B, C, D, E = (rng.integers(-3, 4, s) for s in ((7, 2, 4, 3), 3, (3, 2), (7, 5), 4))
    got = INT8.compute(
        "Y[j] = A[j,i,m,l] * B[l] * (C[l,i] - D[j,k] * E[m])", A=A, B=B, C=C, D=D, E=E
    )
    expected = 5 * np.einsum("jiml,l,li->j", A, B, C) - np.einsum("jiml,l,jk,m->j", A, B, D, E)
    np.testing.assert_array_equal(got, expected)


def test_parts_have_names_of_their_own():
    plans = INT8.explain("y = (A[i] + b) * (C[j] + d)", A=[1, 2], b=2, C=[1, 0, 3], d=3).plans
    names = [plan.statement.result.name for plan in plans]
    assert len(set(names)) == len(names) > 3
