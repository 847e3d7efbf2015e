"""Masks: results are kept where a tensor has an entry, or where it has none."""

import itertools
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Tensor
from loopnest.expression.split import OneKernelError

ROWS, COLUMNS, DEPTH = 20, 37, 30
RNG = np.random.default_rng(5)
CHIPS = {dtype: Chip(dtype=dtype, backend="model") for dtype in ("bf16", "int8")}


def values(*shape, density=1.0):
    return RNG.integers(-3, 4, shape) * (RNG.random(shape) < density) * 1.0


A, B = values(ROWS, DEPTH, density=0.2), values(DEPTH, COLUMNS, density=0.2)
C, D, E = (values(ROWS, COLUMNS, density=0.4) for _ in range(3))
MASK = sp.random_array((ROWS, COLUMNS), density=0.3, rng=RNG)
STATEMENTS = {
    "X[i,j] = A[i,k] * B[k,j]": A @ B,
    "X[i,j] = a[i,k] * b[k,j]": A @ B,
    "X[i,j] = C[i,j]": C,
    "X[i,j] = c[i,j] * D[i,j]": C * D,
    "X[i,j] = C[i,j] + D[i,j]": C + D,
    "X[i,j] = C[i,j] - d[i,j]": C - D,
    "X[i,j] = C[i,j] + D[i,j] + E[i,j]": C + D + E,
    "X[i,j] = C[i,j] * (D[i,j] + E[i,j])": C * (D + E),
    "X[i,j] = C[i,j] - A[i,k] * B[k,j]": C - A @ B,
}
ARRAYS = {"a": A, "b": B, "c": C, "d": D, "e": E}


def operands(text):
    names = {n for n in "abcdeABCDE" if f"{n}[" in text}
    return {n: sp.csr_array(ARRAYS[n.lower()]) if n.isupper() else ARRAYS[n] for n in names}


def dense(X):
    return X.toarray() if sp.issparse(X) else X


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("text", STATEMENTS)
def test_every_order(dtype, text, complement):
    expected = STATEMENTS[text] * ((MASK.toarray() != 0) != complement)
    indices = [i for i in "ijk" if i in text]
    for order in (None, *itertools.permutations(indices)):
        got = CHIPS[dtype].compute(
            text, order=order, mask=MASK, complement=complement, **operands(text)
        )
        np.testing.assert_array_equal(dense(got), expected, err_msg=str(order))


def test_the_pattern_is_structural():
    ones = sp.csr_array(np.ones((3, 4)))
    explicit = sp.csr_array((np.zeros(1), ([1], [2])), shape=(3, 4))
    chip = CHIPS["bf16"]
    for mask in (explicit, Tensor.from_scipy(explicit), sp.coo_array(explicit)):
        got = chip.compute("X[i,j] = A[i,j]", A=ones, mask=mask)
        assert sp.issparse(got) and got.nnz == 1 and got[1, 2] == 1
        rest = chip.compute("X[i,j] = A[i,j]", A=ones, mask=mask, complement=True)
        assert rest.nnz == 11 and rest[1, 2] == 0
    # an array's nonzeros; the values do not have to fit the number format
    mask = np.array([[0, 1e30, 0, 0], [0, np.nan, 0, 0], [0, 0, 0, 0]])
    assert chip.compute("X[i,j] = A[i,j]", A=ones, mask=mask).nnz == 2
    assert chip.compute("X[i,j] = A[i,j]", A=ones, mask=mask != 0).nnz == 2


def test_a_mask_of_some_indices_makes_no_result_sparse():
    """It keeps whole rows; only a mask of all indices determines each element."""
    a, b, some = np.ones((5, 4)), np.ones((4, 6)), sp.coo_array(np.array([0, 1, 0, 0, 1]))
    chip = CHIPS["bf16"]
    got = chip.compute("X[i,j] = a[i,k] * b[k,j] where M[i]", a=a, b=b, M=some)
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got[:, 0], [0, 4, 0, 0, 4])
    assert sp.issparse(chip.compute("X[i,j] = a[i,k] * b[k,j]", a=a, b=b, mask=np.eye(5, 6)))
    assert sp.issparse(chip.compute("X[i,j] = A[i,j] where M[i]", A=sp.csr_array(a), M=some))


def test_a_mask_does_not_touch_the_values():
    left = sp.csr_array((np.array([-0.0, np.nan, np.inf]), ([0, 0, 0], [0, 1, 2])), shape=(1, 9))
    right = sp.csr_array((np.array([2.0, -0.0]), ([0, 0], [3, 4])), shape=(1, 9))
    chip = CHIPS["bf16"]
    whole = chip.compute("X[i,j] = L[i,j] + R[i,j]", L=left, R=right)
    got = chip.compute("X[i,j] = L[i,j] + R[i,j]", L=left, R=right, mask=np.ones((1, 9)))
    assert got.nnz == 5 and got.data.tobytes() == whole.data.tobytes()


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("semiring", ["min_plus", "max_times", "or_and", "plus_pair"])
def test_semirings(semiring, dtype):
    left, right, mask = (values(6, 40, density=0.5) for _ in range(3))
    named = {"L": sp.csr_array(left), "R": sp.csr_array(right)}
    for text in ("X[i,j] = L[i,j] + R[i,j]", "X[i,j] = L[i,j] * R[i,j]"):
        arguments = {"semiring": semiring, "order": "ij", **named}
        whole = CHIPS[dtype].compute(text, **arguments)
        got = CHIPS[dtype].compute(text, mask=mask, **arguments)
        rest = CHIPS[dtype].compute(text, mask=mask, complement=True, **arguments)
        for part, keep in ((got, mask != 0), (rest, mask == 0)):
            there = keep[whole.tocoo().coords]
            assert part.nnz == there.sum()
            np.testing.assert_array_equal(part.data, whole.data[there])


@pytest.mark.parametrize("complement", [False, True])
def test_vectors_and_higher_orders(complement):
    rng = np.random.default_rng(1)
    chip = CHIPS["int8"]
    for indices, shape in (("i", (90,)), ("i,j,k", (4, 5, 20)), ("i,j,k,l", (3, 4, 2, 18))):
        x = rng.integers(-5, 6, shape) * (rng.random(shape) < 0.5)
        mask = rng.random(shape) < 0.4
        got = chip.compute(
            f"y[{indices}] = x[{indices}]", x=sp.coo_array(x), mask=sp.coo_array(mask),
            complement=complement,
        )  # fmt: skip
        np.testing.assert_array_equal(dense(got), x * (mask != complement))


def test_less_is_computed():
    chip = CHIPS["bf16"]
    a, b = sp.csr_array(A), sp.csr_array(B)
    chip.matmul(a, b)
    whole = chip.report.multiplies
    chip.matmul(a, b, mask=MASK)
    kept = chip.report.multiplies
    chip.einsum("ik,kj->ij", a, b, mask=MASK, complement=True)
    assert kept + chip.report.multiplies == whole and 0 < kept < 0.5 * whole
    # only kept places are visited: a dense product limited by its mask
    chip.compute("X[i,j] = a[i,k] * b[k,j]", a=A, b=B, mask=MASK, order="ijk")
    assert chip.report.multiplies == MASK.nnz * DEPTH


def test_an_epilogue_that_keeps_zero():
    got = CHIPS["bf16"].compute(
        "X[i,j] = A[i,k] * B[k,j]", A=A, B=B, mask=MASK, epilogue=Epilogue(relu=True, scale=2.0)
    )
    np.testing.assert_array_equal(dense(got), np.maximum(2 * (A @ B), 0) * (MASK.toarray() != 0))


@pytest.mark.parametrize("out", ["dense,dense", "dense,compressed", "compressed,compressed"])
@pytest.mark.parametrize("rows", [[], [0], [3, 4, 19]])
def test_a_bias_where_whole_rows_are_kept(rows, out):
    kept = np.zeros(20)
    kept[rows] = 1
    text, named = "X[i,j] = A[i,k] * b[k,j] where M[i]", {"A": sp.csr_array(A), "b": B}
    epilogue = Epilogue(bias=np.arange(B.shape[1]), scale=0.5)
    expected = (A @ B + np.arange(B.shape[1])) * 0.5 * kept[:, None]
    for order in ("ikj", "ijk", "kij", None):
        got = CHIPS["bf16"].compute(
            text, M=sp.coo_array(kept), order=order, out=out, epilogue=epilogue, **named
        )
        np.testing.assert_array_equal(dense(got), expected)
        # with loop k outside the mask's, the product is computed first
        assert len(CHIPS["bf16"].report._kernels) == 1 + (order == "kij")


@pytest.mark.parametrize("rows", [[], [1], [0, 1, 2]])
@pytest.mark.parametrize("text", ["-A[l,k+3,i]", "-B[l,k,i]", "B[l,k,i] + A[l,k,i]"])
def test_a_bias_in_every_order(text, rows):
    """A mask without entries ends no fiber in row 0, but would in each coordinate of another loop:
    found by the fuzzer.
    """
    A = RNG.integers(-3, 4, (3, 7, 5))
    B = sp.coo_array(A[:, 3:])
    A = A if "+3" in text else A[:, :4]
    kept = np.isin(np.arange(3), rows) * 1.0
    value = dense(B) * (1 if "+ A" in text else -1) + (A if "+ A" in text else 0)
    named = {name: array for name, array in {"A": A, "B": B}.items() if f"{name}[" in text}
    for order in (None, *itertools.permutations("lki")):
        arguments = {"order": order, "epilogue": Epilogue(bias=2.0), "M": kept, **named}
        try:
            got = CHIPS["int8"].compute(f"X[l,k,i] = {text} where M[l]", **arguments)
        except OneKernelError as error:
            assert order is not None and order[0] != "l"
            assert "expected the loops of the mask M[l] outermost" in str(error)
        else:
            np.testing.assert_array_equal(dense(got), (value + 2) * kept[:, None, None])


@pytest.mark.parametrize("where", ["l,k,n", "l,n", "k,n"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5])
def test_a_bias_where_scanners_are_few(where, share):
    """No level of the mask becomes dense: its fibers would be empty where it keeps nothing."""
    chip = Chip("shrunk", dtype="int8", backend="model", streams=7)
    a = values(3, 4, 3, 5, density=0.5)
    kept = RNG.random([a.shape["lkni".index(i)] for i in where.split(",")]) < share
    keep = np.einsum(f"{where.replace(',', '')},lkni->lkni", kept, np.ones(a.shape))
    for order in (None, "lkni", "nkli", "klni"):
        arguments = {"order": order, "epilogue": Epilogue(bias=np.arange(5.0)), "M": kept}
        with suppress(OneKernelError) if order else nullcontext():
            got = chip.compute(
                f"X[l,k,n,i] = A[l,k,n,i] where M[{where}]", A=sp.coo_array(a), **arguments
            )
            np.testing.assert_array_equal(dense(got), (a + np.arange(5)) * keep)


def test_explain_shows_it():
    text = "X[i,j] = C[i,j] + D[i,j]"
    chip = CHIPS["bf16"]
    shown = str(chip.explain(text, mask=MASK, order="ij", **operands(text)))
    assert "where mask[i,j]" in shown and "for j in C & mask | D & mask" in shown
    assert "j: join C & mask | D & mask; " in shown
    assert "\nlane: C + D where C & mask | D & mask\n" in shown
    shown = str(chip.explain(text, mask=MASK, complement=True, order="ij", **operands(text)))
    assert "where not mask[i,j]" in shown and "for j in (C | D) - mask" in shown
    assert "j: join (C | D) - mask; " in shown and "\nlane: C + D where (C | D) - mask\n" in shown
    ones = np.ones(C.shape)
    shown = str(chip.explain("X[i,j] = c[i,j]", c=ones, mask=MASK, complement=True, order="ij"))
    assert "for j in 0..37 - mask" in shown


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("complement=True: expected a mask", {"complement": True}),
        ("index 'j' has size 37 in C.*9 in mask", {"mask": np.ones((20, 9))}),
        (r"mask has shape \(20,\): expected 2 dimensions", {"mask": np.ones(20)}),
        ("mask is a number: expected an array", {"mask": 1.0}),
        ("epilogue: .*expected one that keeps 0", {"mask": MASK, "epilogue": Epilogue(bias=1.0)}),
    ],
)  # fmt: skip
def test_bad_masks_are_refused(message, arguments):
    with pytest.raises(ValueError, match=message):
        CHIPS["bf16"].compute("X[i,j] = C[i,j]", C=C, **arguments)


def test_bad_mask_names_are_refused():
    chip = CHIPS["bf16"]
    with pytest.raises(ValueError, match="mask: x is a number"):
        chip.compute("x = C[i,j]", C=C, mask=MASK)
    with pytest.raises(ValueError, match="'mask' is an argument of compute: expected another name"):
        chip.compute("X[i,j] = mask[i,j]", mask=C)
    with pytest.raises(TypeError, match="mask is object"):
        chip.compute("X[i,j] = C[i,j]", C=C, mask=object())
