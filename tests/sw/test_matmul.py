"""`Chip.matmul` beside `numpy.matmul`, and numbers in statements."""

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Tensor
from tests.sw.tensors import dense

CASES = 300
RNG = np.random.default_rng(0)
CHIPS = {dtype: Chip("tiny", dtype=dtype, backend="model") for dtype in ("bf16", "int8")}
KINDS = {
    "array": lambda a: a,
    "sparse": sp.coo_array,
    "tensor": Tensor.from_dense,
    "compressed": lambda a: Tensor.from_dense(a, levels=["compressed"] * a.ndim),
}


def stacks(rng):
    """Return the shapes of two operands that broadcast, of a result of up to four modes."""
    rank, *orders = (int(n) for n in rng.integers(0, (3, 3, 3)))
    stack = rng.integers(1, 4, rank)
    inner = int(rng.integers(1, 9))
    found = []
    for n, order in enumerate(orders):
        own = np.where(rng.random(rank) < 0.3, 1, stack)[int(rng.integers(0, rank + 1)) :]
        size = int(rng.integers(1, 9))
        matrix = ((size, inner) if n == 0 else (inner, size)) if order else (inner,)
        found.append((*map(int, own), *matrix) if order else matrix)
    return found


def test_stacks_broadcast_as_numpys_do():
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        A, B = (
            rng.integers(-3, 4, shape) * (rng.random(shape) < rng.choice([0.2, 1]))
            for shape in stacks(rng)
        )
        kinds = rng.choice(list(KINDS), 2)
        chip = CHIPS[rng.choice(["bf16", "int8"])]
        got = chip.matmul(KINDS[kinds[0]](A), KINDS[kinds[1]](B))
        np.testing.assert_array_equal(dense(got), A @ B, f"{seed}: {A.shape} @ {B.shape}, {kinds}")


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ((2, 3, 4), (3, 4, 5), "stacks of 2 and 3 do not broadcast"),
        ((3, 4), (3, 4), r"matmul of shapes \(3, 4\) and \(3, 4\): 4 columns and 3 rows"),
        ((3,), (4,), "3 columns and 4 rows"),
        ((2, 3, 4), (3,), "4 columns and 3 rows"),
        ((), (3,), "A is a number"),
        ((3, 4), (), "B is a number"),
        ((2, 2, 2, 2, 3), (3, 4), "order up to 4"),
    ],
)
def test_shapes_that_numpy_refuses_too(left, right, message):
    A, B = np.ones(left), np.ones(right)
    with pytest.raises(ValueError, match=message):
        CHIPS["int8"].matmul(A, B)
    if A.ndim < 5:
        with pytest.raises(ValueError):
            np.matmul(A, B)


def test_modes_that_broadcast_are_not_copied():
    A, B = RNG.integers(1, 4, (1, 8, 16)), RNG.integers(1, 4, (5, 16, 4))
    chip = CHIPS["int8"]
    assert (chip.matmul(A, B) == A @ B).all()
    assert chip.report.statement == "result[a,i,j] = A[i,k] * B[a,k,j]"


x, W = np.arange(-2.0, 4), RNG.integers(-3, 4, (6, 5)) * 1.0


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("y[i] = 2 * x[i] + 5", 2 * x + 5),
        ("y[i] = -128 * x[i] - 3", -128 * x - 3),
        ("y[i] = x[i] * (1 - x[i])", x * (1 - x)),
        ("Y[i,j] = 1e1 * W[i,j] + 0.5e1", 10 * W + 5),
        ("y[i] = W[i,j] + 1", W.sum(1) + 1),
        ("y[i] = 2 * (W[i,j] + 1)", 2 * (W + 1).sum(1)),
        ("t = 2 * 3 + 1.", 7),
        ("y[i] = -(2 * x[i] - 3) * 4", -(2 * x - 3) * 4),
        ("y[i] = 2 * x[i] + 2", 2 * x + 2),
    ],
)
def test_numbers_in_statements(statement, expected, dtype):
    named = {name: array for name, array in {"x": x, "W": W}.items() if f"{name}[" in statement}
    for kind in KINDS.values():
        operands = {name: kind(array) for name, array in named.items()}
        np.testing.assert_array_equal(dense(CHIPS[dtype].compute(statement, **operands)), expected)


def test_numbers_are_operands_of_their_value():
    bf16, int8 = CHIPS["bf16"], CHIPS["int8"]
    assert (bf16.compute("y[i] = .5 * x[i] + 2.5E-1", x=x) == 0.5 * x + 0.25).all()
    third = bf16.compute("t = 0.1")
    assert third == Tensor.from_dense(0.1, dtype="bf16").to_dense()
    for number in ("128", "2.5", "-129", "1e3"):
        with pytest.raises(ValueError, match=f"number {number} in .*: expected an integer from"):
            int8.compute(f"y[i] = {number} * x[i]", x=x)
    # a constant term leaves no entry absent
    sparse = sp.csr_array(W)
    assert sp.issparse(bf16.compute("Y[i,j] = 2 * W[i,j]", W=sparse))
    assert isinstance(bf16.compute("Y[i,j] = W[i,j] + 1", W=sparse), np.ndarray)
    with pytest.raises(ValueError, match="operand '2'"):
        bf16.compute("y[i] = 2 * x[i]", x=x, **{"2": 3})


@pytest.mark.parametrize(
    ("semiring", "product", "total"),
    [
        ("min_plus", x + 2, np.minimum(x, 2)),
        ("max_times", 2 * x, np.maximum(x, 2)),
        ("or_and", x != 0, np.ones(6)),
        ("plus_pair", np.ones(6), np.full(6, 2)),
        ("plus_first", np.full(6, 2), x + 2),
    ],
)
def test_numbers_in_semirings(semiring, product, total):
    chip = CHIPS["bf16"]
    assert (chip.compute("y[i] = 2 * x[i]", x=x, semiring=semiring) == product).all()
    assert (chip.compute("y[i] = x[i] + 2", x=x, semiring=semiring) == total).all()
