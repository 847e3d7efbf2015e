"""What the host does between tensors of a graph and tensors of kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .table import Array, host


@host
def arrange(
    x: Array,
    *,
    stored: Sequence[int],
    index: Sequence[Any],
    axes: Sequence[int],
    shape: Sequence[int],
) -> Array:
    """``x`` with the shape ``stored``, of whose axes a part is taken (one coordinate, or start,
    stop and step), and the others put in the order ``axes`` and broadcast to ``shape``, in which
    they are those axes.
    """
    taken = x.reshape(tuple(stored))[tuple(slice(*i) if np.ndim(i) else i for i in index)]
    placed = taken.transpose(np.argsort(axes)) if len(axes) else taken
    there = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    return np.broadcast_to(placed.reshape(there), tuple(shape))


@host
def place_parts(
    *parts: Array,
    shape: Sequence[int],
    firsts: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
) -> Array:
    """An array of zeros with parts in it, each seen with its ``sizes``, and from its first
    coordinates on.
    """
    found = np.zeros(tuple(shape), np.result_type(*parts))
    for part, first, own in zip(parts, firsts, sizes, strict=True):
        at = tuple(slice(f, f + size) for f, size in zip(first, own, strict=True))
        found[at] = part.reshape(tuple(own))
    return found


@host
def place_pixels(x: Array, *, origin: int, steps: Sequence[int], positions: int) -> Array:
    """Images x (batch, channels, *size) as an array (positions, channels): pixel (n, *at) is row
    ``origin + sum(steps * (n, *at))``, the others are 0.
    """
    found = np.zeros((positions, x.shape[1]), x.dtype)
    found[_pixels((x.shape[0], *x.shape[2:]), origin, steps)] = np.moveaxis(x, 1, -1)
    return found


@host
def take_pixels(x: Array, *, origin: int, steps: Sequence[int], size: Sequence[int]) -> Array:
    """The images (batch, channels, *size) of an array (positions, channels), whose pixels are as
    for `place_pixels`; ``size`` has the batch in front.
    """
    return np.moveaxis(x[_pixels(size, origin, steps)], -1, 1)


def _pixels(size: Sequence[int], origin: int, steps: Sequence[int]) -> Array:
    places = np.indices(tuple(size)).reshape(len(size), -1)
    return (origin + np.asarray(steps) @ places).reshape(tuple(size))


@host
def to_steps(x: Array, *, scale: float, low: int, high: int, name: str = "") -> Array:
    """``round(x / scale)`` from ``low`` to ``high``: integers that stand for ``scale`` each;
    ``name`` is what an error calls the tensor.
    """
    wrong = int(np.count_nonzero(np.isnan(x)))
    if wrong:
        raise ValueError(
            f"{name}{': ' * bool(name)}{wrong:,} of {x.size:,} numbers are NaN: expected numbers "
            f"that an int8 chip can represent"
        )
    return np.clip(np.rint(x / scale), low, high).astype(np.int32)


@host
def from_steps(x: Array, *, scale: float) -> Array:
    """``x * scale``: the real numbers that integers stand for."""
    return (x * scale).astype(np.float32)
