"""A convolution with 3 by 3 weights, dense and pruned, with stride 1 and 2."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest.formats.tensor import Tensor
from loopnest.images.convolution import convolution
from loopnest.images.layout import ImageLayout
from loopnest_hw.config import ChipConfig

from .bounds import Unbounded
from .cases import Case
from .matrices import SEED, nonzeros

SIDE = 16
CHANNELS = 32
FILTERS = 32

PRUNED = (("dense", 1.0, 1.0), ("half of the image, 30 % of the weights", 0.5, 0.3))
"""Names, and the shares of the image's and of the weights' values that are not 0."""


def convolution_cases(config: ChipConfig) -> Iterator[Case]:
    """Yield the convolutions, of an image that is padded by 1."""
    rng = np.random.default_rng(SEED)
    image = nonzeros((SIDE, SIDE, CHANNELS), rng)
    weights = nonzeros((3, 3, CHANNELS, FILTERS), rng)
    for name, of_image, of_weights in PRUNED:
        kept = image * (rng.random(image.shape) < of_image)
        some = weights * (rng.random(weights.shape) < of_weights)
        for stride in (1, 2):
            yield _case(config, f"convolution, {name}, stride {stride}", kept, some, stride)


def _case(config: ChipConfig, name: str, image: NDArray, weights: NDArray, stride: int) -> Case:
    layout = ImageLayout.make(1, image.shape[:2], image.shape[2], border=1)
    layer = convolution(layout, np.moveaxis(weights, (3, 2), (0, 1)), stride=stride, padding=1)
    packed = Tensor.from_dense(
        layout.pack(image[None], "NHWC"), levels="dense,compressed", dtype=config.dtype
    )

    def expected() -> sp.csr_array:
        padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[:2], axis=(0, 1))
        places = np.einsum("yxcrs,rsck->yxk", windows[::stride, ::stride], weights)
        return sp.csr_array(layer.layout.pack(places[None], "NHWC"))

    return Case(
        name=name,
        statement=layer.statement,
        order=layer.order,
        operands={"image": packed, **layer.operands},
        expected=expected,
        bound=Unbounded(),
    )
