"""Views and convolution on the RTL."""

import numpy as np
import pytest

from loopnest import Tensor
from loopnest.images.convolution import convolution
from loopnest.images.layout import ImageLayout
from tests.rtl.chips import Pair, on
from tests.rtl.kernels import dense, random_array


@on("shrunk/int8", "single/bf16")
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


@on("single/bf16")
def test_convolution(pair: Pair) -> None:
    """A 5 by 6 image of 20 channels, 3 by 3 weights, in every other row and column; the windows
    begin in front of the image.
    """
    rng = np.random.default_rng(7)
    image = np.sign(random_array(rng, (1, 20, 5, 6), pair.dtype))
    weights = np.sign(random_array(rng, (3, 20, 3, 3), pair.dtype))
    layout = ImageLayout.make(1, (5, 6), 20, border=1)
    layer = convolution(layout, weights, stride=2, padding=1)
    packed = Tensor.from_dense(layout.pack(image), levels="dense,compressed", dtype=pair.dtype)
    got = pair.run(layer.statement, order=layer.order, image=packed, **layer.operands)
    padded = np.pad(image[0], [(0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    expected = np.einsum("cyxrs,kcrs->kyx", windows, weights)
    np.testing.assert_array_equal(layer.layout.unpack(got)[0], expected)
