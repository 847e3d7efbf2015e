"""Poolings as statements: ``out[p,c] = taps[p,q] * image[q,c]``.

The taps are a sparse matrix of ones: a row for each window, whose entries are the pixels in it. The
padding is in no row, so a maximum is right for negative values too, and the result may have any
layout, without gaps between the windows of a stride.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ..arguments import flag
from .layer import Layer
from .layout import ImageLayout
from .windows import Axis, Each, Pads, each, make_axes


def max_pool(
    layout: ImageLayout,
    kernel: Each,
    *,
    stride: Each | None = None,
    padding: Pads = 0,
    dilation: Each = 1,
    ceil_mode: bool = False,
    border: Pads = 0,
    to: ImageLayout | None = None,
    image: str = "image",
    result: str = "result",
) -> Layer:
    """Return the maximum of windows as a layer; the padding does not count.

    Images with a compressed level lack zeros that a maximum has to see: of these, the result is
    right where no value is negative (`Layer.nonnegative`).

    Parameters
    ----------
    layout : ImageLayout
        Of the images; its border is not used.
    kernel, stride, dilation : int, or one for each dimension
        Of the windows; the stride is by default the kernel.
    padding : int, or for each dimension an int or (before, after)
        Up to half of the kernel, so that each window has a pixel.
    ceil_mode : bool
        Also windows at the end that are not complete, as in PyTorch.
    border : as padding
        Of the result, whose layout is the smallest one.
    to : ImageLayout, optional
        The result's layout instead.
    image, result : str
        The names of the tensors in the statement; the windows' is ``{result}_taps``.

    Raises
    ------
    ValueError
        For a number out of its range, or a layout ``to`` of other sizes.
    TypeError
        For what is not an integer.
    """
    axes = _axes(layout, kernel, stride, padding, dilation, ceil_mode)
    found = _layout(layout, axes, border, to)
    return _layer(layout, found, axes, image, result, semiring="max_times_0", nonnegative=True)


def avg_pool(
    layout: ImageLayout,
    kernel: Each,
    *,
    stride: Each | None = None,
    padding: Pads = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    border: Pads = 0,
    to: ImageLayout | None = None,
    image: str = "image",
    result: str = "result",
) -> Layer:
    """Return the average of windows as a layer.

    The sums are divided by the epilogue's scale; on an int8 chip they are rounded there.

    Parameters
    ----------
    count_include_pad : bool
        Divide by the pixels of a window in the padded image, otherwise by those in the image.
    layout, kernel, stride, padding, ceil_mode, border, to, image, result
        As for `max_pool`.

    Raises
    ------
    ValueError, TypeError
        As `max_pool`.
    """
    axes = _axes(layout, kernel, stride, padding, 1, ceil_mode)
    found = _layout(layout, axes, border, to)
    pads = flag("count_include_pad", count_include_pad)
    counts = np.ones((1, *(1,) * len(axes)), np.int64)
    for n, axis in enumerate(axes):
        before, after = (axis.before, axis.after) if pads else (0, 0)
        there = (axis.taps >= -before) & (axis.taps < axis.size + after)
        shape = [-1 if m == n + 1 else 1 for m in range(len(axes) + 1)]
        counts = counts * there.sum(axis=1).reshape(shape)
    scale: float | NDArray[np.float64] = 1 / counts.flat[0]
    if counts.min() < counts.max():
        scale = np.ones((found.positions, 1))
        scale[found.pixels, 0] = 1 / counts.reshape(1, *found.pixels.shape[1:])
    return _layer(layout, found, axes, image, result, scale=scale)


def global_average(
    layout: ImageLayout,
    *,
    to: ImageLayout | None = None,
    image: str = "image",
    result: str = "result",
) -> Layer:
    """Return the average of each image as a layer; its result is a matrix of shape
    ``(batch, channels)``, unless ``to`` is given.
    """
    return avg_pool(layout, layout.size, stride=1, to=to, image=image, result=result)


def repack(
    layout: ImageLayout, to: ImageLayout, *, image: str = "image", result: str = "result"
) -> Layer:
    """Return the layer that copies images to another layout.

    Parameters
    ----------
    to : ImageLayout
        Of the same batch, size and channels.

    Raises
    ------
    ValueError
        For another batch, size or channels.
    """
    axes = _axes(layout, 1, 1, 0, 1, False)
    return _layer(layout, _layout(layout, axes, 0, to), axes, image, result)


def _axes(
    layout: ImageLayout,
    kernel: Each,
    stride: Each | None,
    padding: Pads,
    dilation: Each,
    ceil_mode: bool,
) -> tuple[Axis, ...]:
    """Return the windows of a pooling, each of which has a pixel."""
    taps = each("kernel", kernel, layout.dimensions, least=1)
    axes = make_axes(
        "kernel",
        layout.size,
        taps,
        stride=taps if stride is None else stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=flag("ceil_mode", ceil_mode),
    )
    for axis in axes:
        inside = (axis.taps >= 0) & (axis.taps < axis.size)
        if not inside.any(axis=1).all():
            raise ValueError(
                f"padding={padding}: a window of {kernel} has no pixel of the image: expected up "
                f"to half of the kernel"
            )
    return axes


def _layout(
    layout: ImageLayout, axes: Sequence[Axis], border: Pads, to: ImageLayout | None
) -> ImageLayout:
    """Return the result's layout."""
    size = tuple(axis.windows for axis in axes)
    if to is None:
        return ImageLayout.make(layout.batch, size, layout.channels, border=border)
    sizes = (to.batch, *to.size, to.channels)
    expected = (layout.batch, *size, layout.channels)
    if sizes != expected:
        raise ValueError(
            f"a layout of {sizes} (batch, size, channels) for the result: expected {expected}"
        )
    return to


def _layer(
    layout: ImageLayout,
    found: ImageLayout,
    axes: Sequence[Axis],
    image: str,
    result: str,
    *,
    semiring: str = "plus_times",
    scale: float | NDArray[np.float64] | None = None,
    nonnegative: bool = False,
) -> Layer:
    """Return the layer of windows whose pixels are summed by a semiring."""
    places = np.zeros((1,) * 2 * len(axes), np.int64)
    inside = np.ones((1,) * 2 * len(axes), np.bool_)
    for n, (axis, step) in enumerate(zip(axes, layout.steps, strict=True)):
        shape = [1] * 2 * len(axes)
        shape[n], shape[n + len(axes)] = axis.taps.shape
        taps = axis.taps.reshape(shape)
        places = places + taps * step
        inside = inside & (taps >= 0) & (taps < axis.size)
    windows = prod(axis.windows for axis in axes)
    inside = inside.reshape(windows, -1)
    window, tap = np.nonzero(inside)
    one = layout.origin + places.reshape(windows, -1)[window, tap]
    images = np.arange(layout.batch)[:, None]
    q = one + images * layout.image_step
    p = found.pixels.reshape(layout.batch, -1)[:, window]
    taps = sp.coo_array(
        (np.ones(q.size, np.int8), (p.reshape(-1), q.reshape(-1))),
        (found.positions, layout.positions),
    )
    return Layer(
        statement=f"{result}[p,c] = {result}_taps[p,q] * {image}[q,c]",
        operands={f"{result}_taps": taps},
        layout=found,
        order="pqc",
        semiring=semiring,
        scale=scale,
        nonnegative=nonnegative,
    )
