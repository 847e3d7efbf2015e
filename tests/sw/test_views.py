"""Views of dense levels: windows, diagonals, strides; and convolution, which is made of them."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Epilogue, Tensor
from loopnest.convolution import convolve
from loopnest.expression.notation import Access, Place
from loopnest.expression.parser import parse

RNG = np.random.default_rng(2)
CHIP = Chip("single", backend="model")


def values(*shape, density=1.0):
    return RNG.integers(-3, 4, shape) * (RNG.random(shape) < density) * 1.0


X, W = values(100), values(7)
A, B = values(20, 20), values(20, 30)
S, KERNEL = values(100, 40, density=0.2), values(4, 40, 6, density=0.3)
WINDOWS = np.lib.stride_tricks.sliding_window_view(X, 7)

CASES = {
    "y[i] = x[i+j] * w[j]": (WINDOWS @ W, {"x": X, "w": W}),
    "y[i] = x[3*i+j] * w[j]": (WINDOWS[::3] @ W, {"x": X, "w": W}),
    "Y[i,j] = x[i+j+2] * w[j]": (WINDOWS[2:] * W, {"x": X, "w": W}),
    "y[i] = x[4*i+3]": (X[3::4], {"x": X}),
    "y[i] = x[i+1] - x[i]": (np.diff(X), {"x": X}),
    "y[i] = x[i] - x[i+1] + x[i+2]": (X[:-2] - X[1:-1] + X[2:], {"x": X}),
    "d[i] = A[i,i]": (np.diag(A), {"A": A}),
    "t = A[i,i]": (np.trace(A), {"A": A}),
    "D[i,k] = A[i,i] * B[i,k]": (np.diag(A)[:, None] * B, {"A": A, "B": B}),
    "P[i,j] = A[i,j] * A[j,i]": (A * A.T, {"A": A}),
    "P[i,j] = A[j,i] * B[i,j+10]": (A.T * B[:, 10:], {"A": A, "B": B}),
    "P[i,j] = A[i+2,2*j]": (A[2:, ::2], {"A": A}),
    "o[p,k] = S[p+q,c] * w[q,c,k]": (
        sum(S[q : q + 97] @ KERNEL[q] for q in range(4)),
        {"S": sp.csr_array(S), "w": sp.coo_array(KERNEL)},
    ),
    "o[p,k] = s[p+q,c] * w[q,c,k]": (
        sum(S[q : q + 97] @ KERNEL[q] for q in range(4)),
        {"s": S, "w": KERNEL},
    ),
}


def dense(result):
    if isinstance(result, Tensor):
        return result.to_dense()
    return result.toarray() if sp.issparse(result) else np.asarray(result)


@pytest.mark.parametrize("text", CASES)
def test_views(text):
    expected, operands = CASES[text]
    np.testing.assert_array_equal(dense(CHIP.compute(text, **operands)), expected)


@pytest.mark.parametrize("text", ["y[i] = x[3*i+j] * w[j]", "P[i,j] = A[j,i] * B[i,j+10]"])
def test_tensors_and_orders(text):
    expected, operands = CASES[text]
    tensors = {
        name: Tensor.from_dense(a, mode_order=range(a.ndim)[::-1]) for name, a in operands.items()
    }
    for order in itertools.permutations([i for i in "ij" if i in text]):
        for arguments in (operands, tensors):
            got = CHIP.compute(text, order=order, **arguments)
            np.testing.assert_array_equal(dense(got), expected)


def test_a_window_takes_no_more_memory_than_its_vector():
    x = np.ones(10_000)
    CHIP.compute("y[i] = x[i+j] * w[j]", x=x, w=np.ones(50))
    (kernel,) = CHIP.report._kernels
    assert kernel.tensors[kernel.plan.nest.lane.columns.index(0)].nbytes == 2 * 10_000
    CHIP.compute("y[i] = x[i+1] - x[i]", x=x)
    assert len({id(t) for t in CHIP.report._kernels[0].tensors}) == 1


def test_loops_that_cannot_walk_a_view():
    """They use a dense copy, if absent entries are equivalent to 0."""
    text = "o[p,k] = S[p+q,c] * w[q,c,k]"
    _, operands = CASES[text]
    expected = CHIP.compute(text, out="dense,dense", **operands)
    got = CHIP.compute(text, order="cpqk", out="dense,dense", **operands)
    np.testing.assert_array_equal(dense(got), dense(expected))
    with pytest.raises(ValueError, match="has the loops pq outside its compressed levels"):
        CHIP.compute(text, order="cpqk", semiring="min_plus", **operands)


SPARSE_VIEWS = {
    "d[i] = A[i,i]": lambda A, i, j: A[i, i],
    "Y[i,j] = A[i,i+j]": lambda A, i, j: A[i, i + j],
    "Y[i,j] = A[i+j,j+2]": lambda A, i, j: A[i + j, j + 2],
    "Y[i,j] = A[2*i+1,3*j]": lambda A, i, j: A[2 * i + 1, 3 * j],
    "Y[i,j] = A[i+2*j,5]": lambda A, i, j: A[i + 2 * j, 5 + 0 * i],
    "Y[i,j] = A[i+j,2*i+j]": lambda A, i, j: A[i + j, 2 * i + j],
    "Y[i,j] = A[3*i+2*j,i+j+1]": lambda A, i, j: A[3 * i + 2 * j, i + j + 1],
}


@pytest.mark.parametrize("semiring", ["plus_times", "min_plus"])
@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("text", SPARSE_VIEWS)
def test_views_of_sparse_matrices(text, kind, semiring):
    """Every mode is viewed: the entries that the view shows are an operand of their own."""
    rng = np.random.default_rng(len(text))
    shape = {"d[i] = A[i,i]": (9, 9), "Y[i,j] = A[i,i+j]": (9, 41)}.get(text, (44, 41))
    A = rng.integers(1, 8, shape) * (rng.random(shape) < 0.3) * 1.0
    i, j = np.indices((9, 9))
    mask = np.ones((9,) if "Y" not in text else (9, 9))
    x = {"x": np.ones(9) * (semiring == "plus_times")}
    source = sp.csr_array(A) if kind == "array" else Tensor.from_dense(A, levels="compressed,dense")
    if kind == "tensor" and semiring == "min_plus":
        source = source.convert("compressed,compressed")
    want = SPARSE_VIEWS[text](A, i, j) if "Y" in text else np.diag(A)
    statement = text + (" * x[i] * x[j]" if "Y" in text else " * x[i]")
    arguments = {"A": source, "mask": mask, "semiring": semiring, **x}
    got = CHIP.compute(statement, out="compressed" + ",compressed" * ("Y" in text), **arguments)
    np.testing.assert_array_equal(dense(got), want)
    packed = [t for k in CHIP.report._kernels for t in k.tensors if isinstance(t, Tensor)]
    assert packed and all(t.values.size <= max(500, np.count_nonzero(want)) for t in packed)


def test_a_sparse_vector_is_shown_at_every_place_of_its_window():
    x = X * (RNG.random(100) < 0.1)
    y = CHIP.compute("y[i] = x[2*i+j] * w[j]", x=sp.coo_array(x), w=W)
    windows = np.lib.stride_tricks.sliding_window_view(x, 7)
    np.testing.assert_array_equal(dense(y), windows[::2] @ W)


def test_views_of_large_sparse_matrices():
    """No array of their shape is made."""
    n = 50_000
    rng = np.random.default_rng(3)
    at = rng.integers(0, n, (2, 2000))
    at[1, :500] = at[0, :500]
    A = sp.csr_array(sp.coo_array((rng.integers(1, 4, 2000) * 1.0, tuple(at)), (n, n)))
    x = rng.integers(1, 4, n) * 1.0
    np.testing.assert_array_equal(dense(CHIP.compute("y[i] = A[i,i] * x[i]", A=A, x=x)),
                                  A.diagonal() * x)  # fmt: skip
    assert CHIP.compute("s = A[i,i]", A=A) == A.trace()
    tensor = Tensor.from_scipy(A)
    assert CHIP.compute("s = A[i,i]", A=tensor).to_dense() == A.trace()
    rows, columns = A.nonzero()
    T = sp.coo_array((A.data, (rows, rows, columns)), (n, n, n))
    C = CHIP.compute("C[i,k] = T[i,i,k]", T=T)
    assert (C != A).nnz == 0


def test_a_view_that_shows_too_many_entries():
    x = sp.coo_array((np.ones(5000), (np.arange(5000) * 200,)), (1_000_000,))
    with pytest.raises(ValueError, match=r"x is sparse: expected .* up to 4,194,304 entries"):
        CHIP.compute("y[i] = x[i+j] * w[j]", x=x, w=np.ones(10_000), semiring="min_plus")


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("y[i] = x[i+j]", {"x": X}, "size of index 'i' cannot be determined"),
        ("d[i] = A[i,i]", {"A": B}, r"index 'i' has size 20 and 30 in A\[i,i\]"),
        ("y[i] = x[i+95] * w[i]", {"x": X, "w": W}, r"x has 100 there: expected 102"),
        ("y[i] = A[i+1] * x[i]", {"A": A, "x": X}, "A has shape .*expected 1 dimension"),
    ],
)
def test_views_that_do_not_fit(text, arguments, message):
    with pytest.raises(ValueError, match=message):
        CHIP.compute(text, **arguments)


def test_notation():
    (x, w) = parse("y[i] = x[2*i+j+1+2] * w[j]").accesses
    assert x == Access("x[2*i+j+3]", ("i", "j"), (Place((("i", 2), ("j", 1)), 3),))
    assert x.tensor == "x" and str(x) == x.name and w == Access("w", ("j",))
    (view,) = parse("y[i] = x[2*i-3+j-1]").accesses
    assert view == Access("x[2*i+j-4]", ("i", "j"), (Place((("i", 2), ("j", 1)), -4),))
    statement = parse("y[i] = A[i,j] where not M[i]")
    assert str(statement) == "y[i] = A[i,j] where not M[i]" and statement.mask.complement
    assert parse("y[i] = where[i] where where[i]").accesses == (Access("where", ("i",)),) * 2
    for text, message in (
        ("y[i+1] = x[i]", "expected each index once, alone"),
        ("y[i] = x[i+]", "position 11 .*expected an index"),
        ("y[i] = x[i*2]", "position 10"),
        ("y[i] = A[i,j] where M[j]", r"mask M\[j\]: expected indices of the result"),
        ("y[i] = A[i,j] where", "the end, expected a tensor's name"),
    ):
        with pytest.raises(ValueError, match=message):
            parse(text)


def convolved(image, weights, stride, padding):
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[:2], axis=(0, 1))
    return np.einsum("yxcrs,rsck->yxk", windows, weights)[::stride, ::stride]


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_convolution(dtype, stride, padding):
    chip = Chip("tiny", dtype=dtype, backend="model")
    image, weights = values(9, 11, 20, density=0.4), values(3, 3, 20, 5, density=0.3)
    got = convolve(chip, image, weights, stride=stride, padding=padding)
    np.testing.assert_array_equal(got, convolved(image, weights, stride, padding))
    assert len(chip.report._kernels) == 1


def test_a_convolution_of_a_batch():
    """Pairs for both dimensions, before and after, groups, and what is wanted of each image."""
    images, weights = values(2, 7, 9, 6, density=0.7), values(3, 2, 3, 4)
    wanted = RNG.random((2, 4, 9)) < 0.5
    got = convolve(CHIP, images, weights, stride=(2, 1), padding=((2, 1), 1), dilation=(1, 2),
                   groups=2, wanted=wanted)  # fmt: skip
    padded = np.pad(images, [(0, 0), (2, 1), (1, 1), (0, 0)])
    want = np.zeros((2, 4, 9, 4))
    for y, x, k in np.ndindex(4, 9, 4):
        window = padded[:, 2 * y : 2 * y + 3, x : x + 3 : 2, 3 * (k // 2) : 3 * (k // 2) + 3]
        want[:, y, x, k] = np.sum(window * weights[..., k], axis=(1, 2, 3))
    np.testing.assert_array_equal(got, want * wanted[..., None])
    assert len(CHIP.report._kernels) == 1
    one = convolve(CHIP, images[1], weights, groups=2)
    np.testing.assert_array_equal(one, convolve(CHIP, images, weights, groups=2)[1])


def test_only_what_is_wanted_is_computed():
    image, weights = values(10, 10, 16), values(3, 3, 16, 4)
    whole = convolve(CHIP, image, weights)
    every = CHIP.report.multiplies
    wanted = np.zeros((8, 8))
    wanted[2:4, 3:5] = 1
    got = convolve(CHIP, image, weights, wanted=wanted, epilogue=Epilogue(relu=True))
    np.testing.assert_array_equal(got, np.maximum(whole, 0) * wanted[:, :, None])
    assert 0 < CHIP.report.multiplies < 0.1 * every


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_a_bias_for_each_filter(dtype, share):
    """It is added at every wanted place, whether there are products or not."""
    chip = Chip("tiny", dtype=dtype, backend="model")
    rng = np.random.default_rng(3)
    image, weights = values(9, 7, 20, density=0.05), values(3, 3, 20, 18, density=0.1)
    weights[..., 2] = 0
    wanted = rng.random((5, 4)) < share
    bias = np.arange(-4, 14)
    got = convolve(
        chip,
        image,
        weights,
        stride=2,
        padding=1,
        wanted=wanted,
        epilogue=Epilogue(bias=bias, relu=True),
    )
    expected = np.maximum(convolved(image, weights, 2, 1) + bias, 0) * wanted[..., None]
    np.testing.assert_array_equal(got, expected)
    assert len(chip.report._kernels) == 1


@pytest.mark.parametrize(
    ("message", "shapes", "arguments"),
    [
        (r"bias of shape \(2,\): expected a number, or one for each filter",
         [(4, 4, 2), (3, 3, 2, 5)], {"epilogue": Epilogue(bias=[1, 2])}),
        ("image of shape", [(4, 4), (3, 3, 2, 1)], {}),
        ("image of shape", [(4, 4, 3), (3, 3, 2, 1)], {}),
        ("weights of 5 x 3: expected up to 4 x 4", [(4, 4, 2), (5, 3, 2, 1)], {}),
        ("stride=0", [(4, 4, 2), (3, 3, 2, 1)], {"stride": 0}),
        ("weights of shape .3, 3, 2, 3.: .* filters a multiple of groups=2",
         [(4, 4, 4), (3, 3, 2, 3)], {"groups": 2}),
        (r"wanted of shape \(3, 2\): expected \(2, 2\)", [(4, 4, 2), (3, 3, 2, 1)],
         {"wanted": np.ones((3, 2))}),
    ],
)  # fmt: skip
def test_convolutions_that_do_not_fit(message, shapes, arguments):
    with pytest.raises(ValueError, match=message):
        convolve(CHIP, *map(np.ones, shapes), **arguments)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "'paddings'", {"paddings": 5}),
        (TypeError, r"stride=1\.5: expected an integer", {"stride": 1.5}),
        (ValueError, r"images of 4 x 4 x 2 .* with their border: expected up to 2\^20",
         {"padding": 1 << 20}),
        (TypeError, "padding=True: expected an integer", {"padding": True}),
        (ValueError, "wanted: list whose parts differ", {"wanted": [[1], [1, 1]]}),
        (TypeError, "wanted is csr_array: expected a NumPy array",
         {"wanted": sp.csr_array(np.ones((2, 2)))}),
        (ValueError, r"image: value 300\.0 at \(1, 2, 0\): expected an integer from -128 to 127",
         {"image": np.full((4, 4, 2), 1.0) + 299 * (np.arange(32).reshape(4, 4, 2) == 12)}),
        (ValueError, r"weights: value 0\.5 at \(0, 0, 0, 0\)",
         {"weights": np.full((3, 3, 2, 1), 0.5)}),
        (TypeError, "image: values of type complex128", {"image": np.ones((4, 4, 2), complex)}),
        (TypeError, "weights is csr_array: expected a NumPy array",
         {"weights": sp.csr_array(np.ones((3, 3)))}),
    ],
)  # fmt: skip
def test_bad_convolution_types(error, message, arguments):
    chip = Chip(dtype="int8", backend="model")
    given = {"image": np.ones((4, 4, 2)), "weights": np.ones((3, 3, 2, 1))}
    with pytest.raises(error, match=message):
        convolve(chip, **{**given, **arguments})


def test_views_that_a_mask_keeps_within_bounds():
    """Positions in front of a tensor are never read: what is there has no entry in the mask."""
    mask = sp.coo_array((np.ones(4), ([3, 5, 8, 102],)), (120,))
    want = np.zeros(120)
    want[[3, 5, 8]] = X[[0, 2, 5]]
    for source in (X, Tensor.from_dense(X)):
        got = dense(CHIP.compute("y[i] = x[i-3] where m[i]", x=source, m=mask))
        np.testing.assert_array_equal(got, want + X[99] * (np.arange(120) == 102))
    got = CHIP.compute("o[p,k] = S[p+q-3,c] * w[q,c,k] where m[p]", S=sp.csr_array(S), w=KERNEL,
                       m=sp.coo_array((np.ones(2), ([3, 99],)), (120,)))  # fmt: skip
    want = np.zeros((120, 6))
    for p in (3, 99):
        want[p] = sum(S[p + q - 3] @ KERNEL[q] for q in range(4))
    np.testing.assert_array_equal(dense(got), want)
    for text, message in (
        ("y[i] = x[i-3]", "coordinate -3 of x: expected 0 or more, or a mask that is a vector"),
        ("y[i] = x[i-4] where m[i]", "coordinate -1 of x: expected 0 or more"),
        ("y[i] = x[i-2] where m[i]", "x has 100 there: expected 101"),
        ("y[i] = x[i-3] where not m[i]", "coordinate -3 of x"),
        ("y[i] = x[i-j]", "expected a number: a view's indices have no sign"),
    ):
        with pytest.raises(ValueError, match=message):
            CHIP.compute(text, x=X, **({"m": mask} if "m" in text else {}))


def test_views_out_of_bounds_keep_their_mask():
    """Where a statement takes several kernels, those without the mask may not have them."""
    m = sp.coo_array((np.ones(2), ([3, 7],)), (12,))
    x, others = values(8), {name: values(12) for name in "abc"}
    got = CHIP.compute("y[i] = a[i] * b[i] * c[i] * x[i-3] where m[i]", x=x, m=m, **others)
    want = np.zeros(12)
    for i in (3, 7):
        want[i] = x[i - 3] * np.prod([v[i] for v in others.values()])
    np.testing.assert_array_equal(dense(got), want)


def test_a_step_of_an_index_of_size_1_is_never_taken():
    """It may be larger than any position."""
    A = values(3, 5000)
    got = CHIP.compute("y[i,j] = A[1000000*i+1,j]", A=A)
    np.testing.assert_array_equal(got, A[1:2])
    for number in ("99999999999999999999", "9" * 5000):
        with pytest.raises(ValueError, match=r"position 9 .*expected a number up to 2\^32"):
            CHIP.compute(f"y[i] = x[{number}*i]", x=np.ones(3))


@pytest.mark.parametrize(
    "stored", [sp.csr_array, sp.coo_array, lambda a: Tensor.from_dense(a), np.asarray]
)
def test_one_element_of_a_matrix(stored):
    matrix = stored(np.array([[0.0, 2, 0], [3, 0, 4]]))

    def computed(statement, **operands):
        got = CHIP.compute(statement, A=matrix, **operands)
        return np.asarray(got.to_dense() if isinstance(got, Tensor) else got)

    assert computed("y = A[1,2]") == 4
    assert computed("y = A[0,0]") == 0
    assert np.array_equal(computed("y[i] = x[i] * A[0,1]", x=np.arange(3.0)), [0, 2, 4])
