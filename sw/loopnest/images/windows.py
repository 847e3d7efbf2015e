"""Windows of a convolution or a pooling: their taps along each dimension."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer

Each = int | Sequence[int]
"""A number for all dimensions, or one for each."""

Pads = int | Sequence[int | Sequence[int]]
"""Pixels around an image: a number for all sides, or for each dimension one or (before, after)."""

Sides = tuple[tuple[int, int], ...]
"""Pixels before and after the image in each dimension."""


@dataclass(frozen=True)
class Axis:
    """Windows along one dimension, as in PyTorch.

    Window n has its tap t at pixel ``n * stride + t * dilation - before``.

    Attributes
    ----------
    size : int
        Pixels of the image.
    kernel : int
        Taps of a window.
    before, after : int
        Padding.
    windows : int
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    windows: int

    @property
    def reach(self) -> tuple[int, int]:
        """Pixels before and after the image that a window touches, 0 or more."""
        last = (self.windows - 1) * self.stride + (self.kernel - 1) * self.dilation - self.before
        return self.before, max(0, last - (self.size - 1))

    @property
    def taps(self) -> NDArray[np.int64]:
        """The pixels of all taps, shape ``(windows, kernel)``; those outside are in the padding."""
        window = np.arange(self.windows)[:, None] * self.stride
        return window + np.arange(self.kernel) * self.dilation - self.before


def make_axes(
    what: str,
    size: Sequence[int],
    kernel: Sequence[int],
    *,
    stride: Each,
    padding: Pads,
    dilation: Each,
    ceil_mode: bool = False,
) -> tuple[Axis, ...]:
    """Return the windows along each dimension; ``what`` they are of, for messages.

    ``ceil_mode``: also a last window that is not complete, if it begins inside the image or the
    padding before it, as in PyTorch.

    Raises
    ------
    ValueError
        For a number out of its range, or a kernel larger than the padded image.
    TypeError
        For what is not an integer.
    """
    steps = each("stride", stride, len(size), least=1)
    apart = each("dilation", dilation, len(size), least=1)
    pads = sides("padding", padding, len(size))
    axes = []
    for n, taps, step, gap, (before, after) in zip(size, kernel, steps, apart, pads, strict=True):
        span = (taps - 1) * gap + 1
        free = n + before + after - span
        if taps < 1 or free < 0:
            apart_by = "" if max(apart) == 1 else f" with dilation={dilation}"
            padded = [m + sum(pair) for m, pair in zip(size, pads, strict=True)]
            raise ValueError(
                f"{what} of {' x '.join(map(str, kernel))}{apart_by}: expected up to "
                f"{' x '.join(map(str, padded))}, the padded image, and 1 or more"
            )
        windows = free // step + 1
        if ceil_mode and free % step and windows * step < n + before:
            windows += 1
        axes.append(Axis(n, taps, step, gap, before, after, windows))
    return tuple(axes)


def each(name: str, value: Each, dimensions: int, *, least: int) -> tuple[int, ...]:
    """Return a number for each dimension.

    Raises
    ------
    ValueError
        For a number below ``least``, or if there are not as many as dimensions.
    TypeError
        For what is not an integer.
    """
    given = value if isinstance(value, Sequence | np.ndarray) else (value,) * dimensions
    found = tuple(integer(name, n) for n in given)
    if len(found) != dimensions or min(found) < least:
        raise ValueError(
            f"{name}={value}: expected {least} or more, one number or {dimensions}"
            f"{' of them' * (dimensions > 1)}"
        )
    return found


def sides(name: str, value: Pads, dimensions: int) -> Sides:
    """Return the pixels before and after the image for each dimension.

    Raises
    ------
    ValueError
        For a negative number, or if there are not as many as dimensions.
    TypeError
        For what is not an integer.
    """
    several = isinstance(value, Sequence | np.ndarray)
    given: Sequence[Any] = value if several else [value] * dimensions  # type: ignore[assignment]
    found = []
    for side in given:
        pair = tuple(side) if isinstance(side, Sequence | np.ndarray) else (side, side)
        found.append(tuple(integer(name, n) for n in pair))
    if len(found) != dimensions or any(len(p) != 2 or min(p) < 0 for p in found):
        raise ValueError(
            f"{name}={value}: expected 0 or more: a number, or for each of {dimensions} "
            f"dimension{'s' * (dimensions > 1)} a number or (before, after)"
        )
    return tuple((before, after) for before, after in found)
