"""Views and convolution on the RTL."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Tensor
from loopnest.convolution import ORDER, STATEMENT
from tests.rtl.chips import Pair, on
from tests.rtl.kernels import dense, random_array


@on("shrunk/int8", "tiny/bf16")
@pytest.mark.parametrize(
    "statement",
    [
        "y[i] = x[2*i+j+1] * w[j]",
        "y[i] = x[i+1] - x[i]",
        "d[i] = A[i,i]",
        "P[i,j] = A[i,j] * A[j,i]",
    ],
)
def test_views(pair: Pair, statement: str) -> None:
    rng = np.random.default_rng(6)
    shapes = {"x": (40,), "w": (5,), "A": (18, 18)}
    arrays = {n: np.sign(random_array(rng, s, pair.dtype)) for n, s in shapes.items()}
    x, w, A = (arrays[n] for n in "xwA")
    windows = np.lib.stride_tricks.sliding_window_view(x, 5)
    expected = {"x[2": windows[1::2] @ w, "x[i": np.diff(x), "A[i,i]": np.diag(A)}
    wanted = next((v for k, v in expected.items() if k in statement), A * A.T)
    operands = {name: arrays[name] for name in "xwA" if f"{name}[" in statement}
    np.testing.assert_array_equal(dense(pair.run(statement, **operands)), wanted)


@on("tiny/bf16")
def test_convolution(pair: Pair) -> None:
    """A 5 by 6 image of 20 channels, 2 by 2 weights, in every other row and column."""
    rng = np.random.default_rng(7)
    image = np.sign(random_array(rng, (5 * 6, 20), pair.dtype))
    weights = np.sign(random_array(rng, (8, 20, 3), pair.dtype))
    weights[2:6] = 0  # offsets 0, 1, and 6, 7
    at = np.array([0, 2, 4, 12, 14, 16])
    wanted = sp.coo_array((np.ones(len(at)), (at,)), shape=(23,))
    kinds: dict[str, Any] = {"dtype": pair.dtype}
    got = pair.run(
        STATEMENT,
        order=ORDER,
        image=Tensor.from_dense(image, levels="dense,compressed", **kinds),
        weights=Tensor.from_dense(weights, levels=("compressed",) * 3, **kinds),
        wanted=wanted,
    )
    expected = np.zeros((23, 3))
    expected[at] = sum(image[at + q] @ weights[q] for q in range(8))
    np.testing.assert_array_equal(got.to_dense(), expected)
