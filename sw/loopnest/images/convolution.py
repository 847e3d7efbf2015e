"""A convolution as a statement: ``out[p,k] = image[s*p+q+o,c] * weights[q,c,k] where wanted[p]``.

A tap of the weights at (dy, dx) is a distance q between positions of the images' layout, so the
taps are one index; a stride is the factor s of p. Zeros of the weights are not stored, so groups
cost nothing. Without groups of more than one channel (depthwise), channels are no sum:
``out[p,c] = image[s*p+q+o,c] * weights[q,c] where wanted[p]``.

The order p, q, c, k reads an image's pixel and its weights side by side, and sums one pixel of the
result at a time. Filters are the leaf's lanes, and if they fill its steps less than the channels do
(few filters), c and k are exchanged.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, prod
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from loopnest_hw.config import LANES, ChipConfig

from ..arguments import integer
from ..expression.sources import as_source
from ..formats.tensor import Tensor
from .layer import Layer
from .layout import CrowdedError, ImageLayout
from .windows import Axis, Each, Pads, Sides, make_axes, sides

CYCLES_OF_CHANNEL, CYCLES_OF_COPY = 1.7, 2.0
"""Of a pixel's channel: a tap of its filters, and its copy, as estimated for `single`."""
DENSE_FROM = 0.95
"""Share of nonzero weights from which their channels and filters are stored dense."""


def convolution(
    layout: ImageLayout,
    weights: ArrayLike,
    *,
    stride: Each = 1,
    padding: Pads = 0,
    dilation: Each = 1,
    groups: int = 1,
    border: Pads = 0,
    wanted: ArrayLike | None = None,
    image: str = "image",
    result: str = "result",
    density: float = 0.7,
    multipliers: int = ChipConfig.multipliers,
) -> Layer:
    """Return a convolution (a cross-correlation, as in neural networks) as a layer.

    Pixels of the result are as far apart in memory as those of the images whose windows they are,
    divided by what these distances have in common: a layout that is made for the strides keeps
    results dense (`ImageLayout.make`). ``Layer.layout.waste`` is the number of rows for each pixel;
    `pooling.repack` closes gaps.

    Parameters
    ----------
    layout : ImageLayout
        Of the images. Its border holds the padding.
    weights : array_like
        Shape ``(filters, channels / groups, height, width)``, or without height in one dimension.
    stride, dilation : int, or one for each dimension
    padding : int, or for each dimension an int or (before, after)
    groups : int
    border : as padding
        Rows and columns of zeros to keep around the result: the padding of the layers to come.
    wanted : array_like, optional
        Shape ``(height, width)`` of the result, or with the batch in front: where it is 0, the
        result is 0 and not computed.
    image, result : str
        The names of the tensors in the statement; weights and mask are ``{result}_weights`` and
        ``{result}_wanted``.
    density : float
        Share of the images' values that are not 0, as far as it is known, or 1 if they are dense.
    multipliers : int
        Of the chip (`ChipConfig`). It and the density decide between lanes of filters and of
        channels, and change no result but a sum's last bits.

    Returns
    -------
    Layer
        The layout of its result has the filters as channels.

    Raises
    ------
    ValueError
        If shapes do not match, or a number is out of its range.
    CrowdedError
        If a border is missing: that of the images for the padding, or that of the result, which the
        images' steps have no room for.
    TypeError
        For what is not an integer, or an array.
    """
    kernel = _array("weights", weights)
    dimensions, groups = layout.dimensions, integer("groups", groups)
    if groups < 1 or layout.channels % groups:
        raise ValueError(f"groups={groups}: expected a divisor of {layout.channels} channels")
    expected = layout.channels // groups
    if kernel.ndim != 2 + dimensions or kernel.shape[1] != expected or kernel.shape[0] % groups:
        size = ("height, ", "")[dimensions == 1] + "width"
        raise ValueError(
            f"weights of shape {kernel.shape}: expected (filters, {expected}, {size})"
            + f", with filters a multiple of {groups} groups" * (groups > 1)
        )
    axes = make_axes(
        "weights",
        layout.size,
        kernel.shape[2:],
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    reach = tuple(axis.reach for axis in axes)
    around = sides("border", border, dimensions)
    if not layout.has_border(reach):
        raise CrowdedError(
            f"images with padding={padding}: the windows reach {reach} pixels before and after the "
            f"images, expected a layout with zeros there",
            windows_pitch(axes, around),
        )
    found, factor = windows_layout(layout, axes, kernel.shape[0], around)
    taps, offset = _taps(layout, found, axes, factor)
    if len(taps) == factor == 1 and not offset:
        found = _aligned(layout, found)
        taps, offset = _taps(layout, found, axes, factor)
    place = f"{f'{factor}*' if factor > 1 else ''}p"
    moved = f"{offset:+d}" if offset else ""
    names = {"weights": f"{result}_weights", "wanted": f"{result}_wanted"}
    mask = found.wanted if wanted is None else _wanted(wanted, found)
    flat = kernel.reshape(*kernel.shape[:2], -1)
    depthwise = expected == 1 and kernel.shape[0] == groups
    swapped = _channels_fill_more(flat, groups, multipliers, density)
    tensor: Any
    if depthwise:
        order, tensor = "pqc", _depthwise_weights(flat, taps)
        product = f"[p,c] = {image}[{place}+q{moved},c] * {names['weights']}[q,c]"
    elif len(taps) == 1:
        order = "pkc" if swapped else "pck"
        tensor = _matrix(flat[..., 0], groups)
        product = f"[p,k] = {image}[{place}{moved},c] * {names['weights']}[c,k]"
    else:
        order, tensor = _weights(flat, taps, groups, swapped)
        product = f"[p,k] = {image}[{place}+q{moved},c] * {names['weights']}[q,c,k]"
    return Layer(
        statement=f"{result}{product} where {names['wanted']}[p]",
        operands={names["weights"]: tensor, names["wanted"]: mask},
        layout=found,
        order=order,
    )


def repeats_channels(
    weights: NDArray, groups: int, density: float, multipliers: int = ChipConfig.multipliers
) -> bool:
    """Return whether a convolution of each channel with several filters takes less time on images
    whose channels are repeated (`repeated`), one for each filter: the leaf's lanes are filters, and
    those of one channel fill few of them.
    """
    filters, own, *kernel = weights.shape
    times, there = filters // groups, weights.reshape(groups, -1, prod(kernel)) != 0
    if own != 1 or times == 1:
        return False
    steps = -(-times // multipliers)
    together = density * float(there.any(axis=1).sum()) * max(CYCLES_OF_CHANNEL, steps)
    apart = density * groups * CYCLES_OF_COPY * steps + float(there.sum()) / multipliers
    return apart < together


def repeated(layout: ImageLayout, times: int, border: Pads, *, image: str, result: str) -> Layer:
    """Return images with each channel several times, one behind the other, as a layer."""
    ones = np.ones((layout.channels * times, 1, *[1] * layout.dimensions), np.float32)
    groups = layout.channels
    return convolution(layout, ones, groups=groups, border=border, image=image, result=result)


def windows_layout(
    layout: ImageLayout, axes: Sequence[Axis], channels: int, border: Sides
) -> tuple[ImageLayout, int]:
    """Return the layout in which each window's result lies where the window lies in the images, and
    the factor between the distances of windows and those of their results.

    Raises
    ------
    ValueError
        If there is no room for the border.
    """
    size = tuple(axis.windows for axis in axes)
    steps = [axis.stride * step for axis, step in zip(axes, layout.steps, strict=True)]
    # a dimension of one pixel without a border has no distances
    moved = [
        step if n > 1 or any(side) else 0 for step, n, side in zip(steps, size, border, strict=True)
    ]
    image_step = layout.image_step if layout.batch > 1 else 0
    factor = gcd(*moved, image_step) or 1
    row_step, pixel_step = (1, *(max(1, step // factor) for step in moved))[-2:]
    height, width = (1, *size)[-2:]
    (top, bottom), (left, right) = ((0, 0), *border)[-2:]
    origin = top * row_step + left * pixel_step
    images = (layout.batch - 1) * image_step // factor
    last = origin + images + (height - 1 + bottom) * row_step + (width - 1 + right) * pixel_step
    try:
        found = ImageLayout(
            batch=layout.batch,
            height=height,
            width=width,
            channels=channels,
            origin=origin,
            image_step=max(1, image_step // factor),
            row_step=row_step,
            pixel_step=pixel_step,
            positions=last + 1,
            dimensions=layout.dimensions,
        )
        crowded = not found.has_border(border)
    except CrowdedError:
        crowded = True
    if crowded:
        pitch = windows_pitch(axes, border)
        raise CrowdedError(
            f"a result of {size} pixels with border={border} has no room between images with steps "
            f"of {layout.steps} and {layout.image_step}: expected a layout with pitch={pitch}",
            pitch,
        )
    return found, factor


def windows_pitch(axes: Sequence[Axis], border: Sides) -> tuple[int, ...]:
    """Return the pitch of images that has room for the windows' results and a border of these."""
    return tuple(
        axis.stride * (axis.windows + max(side)) for axis, side in zip(axes, border, strict=True)
    )


def _aligned(layout: ImageLayout, found: ImageLayout) -> ImageLayout:
    """Return the layout of a result whose pixels have the positions of the images', with as many
    positions: then both have one index.
    """
    more = layout.positions - found.positions
    if more >= 0:
        return replace(found, positions=layout.positions)
    return replace(found, origin=found.origin + 1, positions=found.positions + 1)


def _taps(
    layout: ImageLayout, found: ImageLayout, axes: Sequence[Axis], factor: int
) -> tuple[NDArray[np.int64], int]:
    """Return the distances q of the taps, from 0 up, in the order of the weights; and what is added
    to them in the images.
    """
    taps = np.zeros((1,) * len(axes), np.int64)
    first = layout.origin - factor * found.origin
    for n, (axis, step) in enumerate(zip(axes, layout.steps, strict=True)):
        along = np.arange(axis.kernel) * axis.dilation * step
        taps = taps + along.reshape([-1 if m == n else 1 for m in range(len(axes))])
        first -= axis.before * step
    return taps.reshape(-1), first


def _weights(
    flat: NDArray, taps: NDArray[np.int64], groups: int, swapped: bool
) -> tuple[str, Tensor]:
    """Return the loops' order and the weights as a tensor of taps, channels and filters;
    ``swapped``: channels are the innermost loop.
    """
    filters, channels, _ = flat.shape
    k, c, t = np.nonzero(flat)
    values = flat[k, c, t]
    c = c + k // (filters // groups) * channels
    shape = (int(taps.max()) + 1, channels * groups, filters)
    dense = len(values) >= DENSE_FROM * len(np.unique(t)) * shape[1] * filters
    inner = ("dense", "dense") if dense else ("compressed", "compressed")
    tensor = Tensor.from_coo(
        (taps[t], c, k),
        values,
        shape,
        levels=("compressed", *inner),
        mode_order=(0, 2, 1) if swapped else (0, 1, 2),
    )
    return ("pqkc" if swapped else "pqck"), tensor


def _channels_fill_more(flat: NDArray, groups: int, multipliers: int, density: float) -> bool:
    """Return whether steps of the leaf with channels as lanes take less time than those with
    filters: a zero of the images saves a step of filters, but only a lane of channels.
    """
    there = (flat != 0).reshape(groups, -1, *flat.shape[1:])
    channels = there.sum(axis=2)
    of_channels = np.ceil(np.ceil(density * channels) / multipliers)
    if density < 1:  # fibers of images and weights are joined block by block
        of_channels = np.maximum(of_channels, -(-flat.shape[1] // LANES)) * (channels > 0)
    of_filters = density * -(-there.sum(axis=1) // multipliers)
    return bool(of_channels.sum() < of_filters.sum())


def _depthwise_weights(flat: NDArray, taps: NDArray[np.int64]) -> Tensor:
    """Return the weights as a tensor of taps and channels."""
    c, _, t = np.nonzero(flat)
    kept = len(np.unique(t)) * len(flat)
    inner = "dense" if len(c) >= DENSE_FROM * kept else "compressed"
    shape = (int(taps.max()) + 1, len(flat))
    return Tensor.from_coo((taps[t], c), flat[c, 0, t], shape, levels=("compressed", inner))


def _matrix(flat: NDArray, groups: int) -> NDArray | sp.coo_array:
    """Return the weights of one tap as a matrix of channels and filters."""
    filters, channels = flat.shape
    if groups == 1:
        return np.ascontiguousarray(flat.T)
    k, c = np.nonzero(flat)
    moved = c + k // (filters // groups) * channels
    return sp.coo_array((flat[k, c], (moved, k)), (channels * groups, filters))


def _wanted(wanted: ArrayLike, layout: ImageLayout) -> sp.coo_array:
    """Return the pixels that are wanted as a mask."""
    kept = _array("wanted", wanted) != 0
    every = (layout.batch, *layout.size)
    if kept.shape not in (every, every[1:]):
        raise ValueError(f"wanted of shape {kept.shape}: expected {every[1:]}")
    shown = np.broadcast_to(kept, every).reshape(layout.pixels.shape)
    places = np.sort(layout.pixels[shown])
    return sp.coo_array((np.ones(len(places), np.int8), (places,)), (layout.positions,))


def _array(name: str, array: ArrayLike) -> NDArray:
    found = as_source(name, array)
    if not isinstance(found, np.ndarray):
        raise TypeError(f"{name} is {type(found).__name__}: expected a NumPy array")
    return found
