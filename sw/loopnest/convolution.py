"""Convolution as a nest of loops: ``out[p,k] = in[p+q,c] * w[q,c,k]`` at the wanted positions p.

The image is an array of its pixels, with a border, row by row; a pixel is a compressed fiber of its
channels. So a weight at (dy, dx) has the offset ``q = dy * width + dx`` in that array, and the
nonzero weights are a compressed level. The loops p and q index the array, c intersects pixel and
weights. Only wanted positions are visited, so a stride or a region of interest costs nothing extra.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, TypedDict, Unpack

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import COORDINATE_BITS, ChipConfig

from .arguments import integer
from .chip import Chip
from .epilogue import Epilogue, check_epilogue
from .expression.operand import as_source
from .formats.tensor import Tensor

STATEMENT = "out[p,k] = image[p+q,c] * weights[q,c,k] where wanted[p]"
ORDER = "pqck"

SCANS = 4
"""Compressed levels below the first loop, if k is compressed too."""


class Places(TypedDict, total=False):
    """The places of the weights on an image.

    Attributes
    ----------
    stride : int
        Distance of the places, in both directions; 1 by default.
    padding : int
        Zeros around the image; 0 by default.
    wanted : array_like
        Array of the result's height and width: where it is 0, the result is not computed and 0. By
        default the whole result is wanted.
    """

    stride: int
    padding: int
    wanted: ArrayLike


def convolve(
    chip: Chip,
    image: ArrayLike,
    weights: ArrayLike,
    *,
    epilogue: Epilogue | None = None,
    **places: Unpack[Places],
) -> NDArray[Any]:
    """Convolve an image with weights, without flipping them (a cross-correlation, as in neural
    networks).

    Zeros of the image and of the weights are skipped.

    Parameters
    ----------
    image : array_like
        Shape ``(height, width, channels)``.
    weights : array_like
        Shape ``(rows, columns, channels, filters)``.
    epilogue : Epilogue, optional
        Applied at the wanted places. Its bias and scale are numbers, or arrays with one for each
        filter.
    **places
        Stride, padding and wanted places: see `Places`.

    Returns
    -------
    ndarray
        Shape ``(result height, result width, filters)``; the run is in ``chip.report``.

    Raises
    ------
    ValueError
        If shapes do not match, or an argument or a value is out of its range.
    TypeError
        For an argument of another type, or an unknown one.
    """
    check_epilogue(epilogue)
    packed = pack_convolution(chip.config, image, weights, **places)
    for name in ("bias", "scale") if epilogue is not None else ():
        shape = np.shape(getattr(epilogue, name))
        if shape not in ((), (np.shape(weights)[3],)):
            raise ValueError(f"{name} of shape {shape}: expected a number, or one for each filter")
    # with a bias, every element of a wanted pixel can be nonzero
    whole = epilogue is not None and not epilogue.keeps_zero
    result = chip.compute(
        STATEMENT,
        order=ORDER,
        out="dense,dense" if whole else None,
        epilogue=epilogue,
        **packed.operands,
    )
    return result.to_dense()[packed.positions]


@dataclass(frozen=True)
class PackedConvolution:
    """The operands of `STATEMENT`, and the positions in its result of the weights' places, as an
    array of the convolution's height and width.
    """

    operands: dict[str, Any]
    positions: NDArray[np.int64]


def pack_convolution(
    config: ChipConfig,
    image: ArrayLike,
    weights: ArrayLike,
    *,
    stride: int = 1,
    padding: int = 0,
    wanted: ArrayLike | None = None,
) -> PackedConvolution:
    """Pack a convolution's operands; arguments and errors are those of `convolve`."""
    stride, padding = integer("stride", stride), integer("padding", padding)
    pixels = _checked("image", image, config)
    kernel = _checked("weights", weights, config)
    if pixels.ndim != 3 or kernel.ndim != 4 or pixels.shape[2] != kernel.shape[2]:
        raise ValueError(
            f"image of shape {pixels.shape} and weights of shape {kernel.shape}: expected "
            f"(height, width, channels) and (rows, columns, channels, filters)"
        )
    if stride < 1 or padding < 0:
        raise ValueError(f"stride={stride}, padding={padding}: expected 1 or more, and 0 or more")
    size = [n + 2 * padding for n in pixels.shape[:2]]
    if prod(size) > 1 << COORDINATE_BITS:
        raise ValueError(
            f"image of shape {pixels.shape} with padding={padding}: expected up to "
            f"2^{COORDINATE_BITS} pixels"
        )
    pixels = np.pad(pixels, [(padding, padding), (padding, padding), (0, 0)])
    height, width, channels = pixels.shape
    rows, columns, _, filters = kernel.shape
    if not (0 < rows <= height and 0 < columns <= width):
        raise ValueError(f"weights of {rows} x {columns}: expected up to {height} x {width}")
    shape = (height - rows) // stride + 1, (width - columns) // stride + 1
    kept = np.ones(shape, bool) if wanted is None else _array("wanted", wanted) != 0
    if kept.shape != shape:
        raise ValueError(f"wanted of shape {kept.shape}: expected {shape}")

    positions = stride * (np.arange(shape[0])[:, None] * width + np.arange(shape[1]))
    span = (rows - 1) * width + columns
    dy, dx, c, k = np.nonzero(kernel)
    last = "compressed" if config.scanners >= SCANS else "dense"
    operands = {
        "image": Tensor.from_dense(
            pixels.reshape(height * width, channels),
            levels="dense,compressed",
            dtype=config.dtype,
        ),
        "weights": Tensor.from_coo(
            (dy * width + dx, c, k),
            kernel[dy, dx, c, k],
            (span, channels, filters),
            levels=f"compressed,compressed,{last}",
            dtype=config.dtype,
        ),
        "wanted": sp.coo_array(
            (np.ones(kept.sum()), (positions[kept],)), shape=(height * width - span + 1,)
        ),
    }
    return PackedConvolution(operands, positions)


def _array(name: str, array: ArrayLike) -> NDArray[Any]:
    found = as_source(name, array)
    if not isinstance(found, np.ndarray):
        raise TypeError(f"{name} is {type(found).__name__}: expected a NumPy array")
    return found


def _checked(name: str, array: ArrayLike, config: ChipConfig) -> NDArray[Any]:
    """Return an array, checked to have only values that the chip can represent."""
    found = _array(name, array)
    try:
        Tensor.from_dense(found, dtype=config.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    return found
