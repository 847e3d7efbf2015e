"""Convolutions: 3 by 3, dense and pruned, with stride 1 and 2; of each channel alone; 1 by 1."""

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

PRUNED = (
    ("dense", 1.0, 1.0),
    ("half of the image, 30 % of the weights", 0.5, 0.3),
    ("10 % of the weights", 1.0, 0.1),
)
"""Names, and the shares of the image's and of the weights' values that are not 0."""


def convolution_cases(config: ChipConfig) -> Iterator[Case]:
    """Yield the convolutions, of an image with the padding that keeps its size."""
    rng = np.random.default_rng(SEED)
    image = nonzeros((1, CHANNELS, SIDE, SIDE), rng)
    weights = nonzeros((FILTERS, CHANNELS, 3, 3), rng)
    for name, of_image, of_weights in PRUNED:
        kept = image * (rng.random(image.shape) < of_image)
        some = weights * (rng.random(weights.shape) < of_weights)
        for stride in (1, 2):
            yield _case(config, f"convolution, {name}, stride {stride}", kept, some, stride)
    each = nonzeros((CHANNELS, 1, 5, 5), rng)
    yield _case(config, "convolution 5 by 5 of each channel", image, each, 1, CHANNELS)
    matrix = nonzeros((FILTERS, CHANNELS, 1, 1), rng)
    yield _case(config, "convolution 1 by 1", image, matrix, 1)


def _case(
    config: ChipConfig,
    name: str,
    image: NDArray,
    weights: NDArray,
    stride: int,
    groups: int = 1,
) -> Case:
    padding = weights.shape[2] // 2
    layout = ImageLayout.make(1, image.shape[2:], image.shape[1], border=padding)
    layer = convolution(layout, weights, stride=stride, padding=padding, groups=groups)
    packed = Tensor.from_dense(layout.pack(image), levels="dense,compressed", dtype=config.dtype)

    def expected() -> sp.csr_array:
        padded = np.pad(image[0], [(0, 0), (padding, padding), (padding, padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(1, 2))
        form = "cyxrs,kcrs->kyx" if groups == 1 else "kyxrs,kcrs->kyx"
        places = np.einsum(form, windows[:, ::stride, ::stride], weights)
        return sp.csr_array(layer.layout.pack(places[None]))

    return Case(
        name=name,
        statement=layer.statement,
        order=layer.order,
        operands={"image": packed, **layer.operands},
        expected=expected,
        bound=Unbounded(),
    )
