"""Convolution of arrays, computed at once; `images.convolution` makes it a layer of a program."""

from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arguments import integer
from .chip import Chip
from .epilogue import Epilogue, check_epilogue
from .expression.sources import as_source
from .formats.tensor import Tensor
from .images.convolution import convolution, windows_pitch
from .images.layout import ImageLayout
from .images.windows import Each, Pads, make_axes, sides


class Places(TypedDict, total=False):
    """The places of the weights on an image; numbers are for both dimensions, or one for each.

    Attributes
    ----------
    stride : int or (int, int)
        Distance of the places; 1 by default.
    padding : int, or for each dimension an int or (before, after)
        Zeros around the image; 0 by default.
    dilation : int or (int, int)
        Distance of the weights; 1 by default.
    groups : int
        Parts of the channels, each with filters of its own; 1 by default.
    wanted : array_like
        Array of the result's height and width, or with the batch in front: where it is 0, the
        result is not computed and 0. By default the whole result is wanted.
    """

    stride: Each
    padding: Pads
    dilation: Each
    groups: int
    wanted: ArrayLike


def convolve(
    chip: Chip,
    image: ArrayLike,
    weights: ArrayLike,
    *,
    epilogue: Epilogue | None = None,
    **places: Unpack[Places],
) -> NDArray[Any]:
    """Convolve images with weights, without flipping them (a cross-correlation, as in neural
    networks).

    Zeros of the images and of the weights are skipped.

    Parameters
    ----------
    image : array_like
        Shape ``(height, width, channels)`` or ``(batch, height, width, channels)``.
    weights : array_like
        Shape ``(rows, columns, channels / groups, filters)``.
    epilogue : Epilogue, optional
        Applied at the wanted places. Its bias and scale are numbers, or arrays with one for each
        filter.
    **places
        Stride, padding, dilation, groups and wanted places: see `Places`.

    Returns
    -------
    ndarray
        Shape ``(result height, result width, filters)``, with the batch in front if the image has
        one; the run is in ``chip.report``.

    Raises
    ------
    ValueError
        If shapes do not match, or an argument or a value is out of its range.
    TypeError
        For an argument of another type, or an unknown one.
    """
    check_epilogue(epilogue)
    pixels, kernel = _checked("image", image, chip), _checked("weights", weights, chip)
    groups = integer("groups", places.get("groups", 1))
    if (
        pixels.ndim not in (3, 4)
        or kernel.ndim != 4
        or pixels.shape[-1] != kernel.shape[2] * groups
        or kernel.shape[3] % groups
    ):
        raise ValueError(
            f"image of shape {pixels.shape} and weights of shape {kernel.shape}: expected "
            f"(height, width, channels) or (batch, height, width, channels), and "
            f"(rows, columns, channels / groups, filters)"
            + f", with filters a multiple of groups={groups}"
            * (groups != 1)
        )
    batch = pixels if pixels.ndim == 4 else pixels[None]
    axes = make_axes(
        "weights",
        batch.shape[1:3],
        kernel.shape[:2],
        stride=places.get("stride", 1),
        padding=places.get("padding", 0),
        dilation=places.get("dilation", 1),
    )
    layout = ImageLayout.make(
        batch.shape[0],
        batch.shape[1:3],
        batch.shape[3],
        border=[axis.reach for axis in axes],
        pitch=windows_pitch(axes, sides("border", 0, 2)),
    )
    layer = convolution(layout, np.moveaxis(kernel, (3, 2), (0, 1)), **places)
    packed = Tensor.from_dense(
        layout.pack(batch, "NHWC"), levels="dense,compressed", dtype=chip.config.dtype
    )
    # with a bias, every element of a wanted pixel can be nonzero
    whole = epilogue is not None and not epilogue.keeps_zero
    step = layer.assignment(epilogue, out="dense,dense" if whole else "dense,compressed")
    result = chip.compute(
        step.statement,
        order=step.order,
        out=step.out,
        epilogue=step.epilogue,
        image=packed,
        **layer.operands,
    )
    found = layer.layout.unpack(result, "NHWC")
    return found if pixels.ndim == 4 else found[0]


def _checked(name: str, array: ArrayLike, chip: Chip) -> NDArray[Any]:
    """Return an array, checked to have only values that the chip can represent."""
    found = as_source(name, array)
    if not isinstance(found, np.ndarray):
        raise TypeError(f"{name} is {type(found).__name__}: expected a NumPy array")
    try:
        Tensor.from_dense(found, dtype=chip.config.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    return found
