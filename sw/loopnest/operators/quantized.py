"""Conversion between floating-point numbers and integers with a scale and a zero point."""

from typing import Any

import numpy as np

from .table import Array, chip, host, number_as


def along(parameter: Array, x: Array, axis: int | None) -> Array:
    """Return a scale or a zero point in a shape that broadcasts: a number, one for each place of
    an axis, or, with as many axes as ``x``, one for each block along ``axis``.
    """
    parameter = np.asarray(parameter)
    if parameter.size == 1:
        return parameter.reshape(())
    if axis is None:
        raise ValueError(f"a scale of shape {parameter.shape}: expected an axis for it")
    if parameter.ndim == 1:
        return parameter.reshape([-1 if n == axis % x.ndim else 1 for n in range(x.ndim)])
    block = -(-x.shape[axis] // parameter.shape[axis])
    blocks = np.repeat(parameter, block, axis=axis)
    return np.take(blocks, np.arange(x.shape[axis]), axis=axis)


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the largest number of a type of integers."""
    if dtype.kind in "iu":
        found = np.iinfo(dtype)
        return int(found.min), int(found.max)
    # integers of 2 and 4 bits, which NumPy knows by name only
    bits = int(dtype.name.lstrip("uint"))
    span = 1 << bits
    return (0, span - 1) if dtype.name.startswith("u") else (-span // 2, span // 2 - 1)


@host
def quantize(x: Array, scale: Array, zero_point: Array, *, axis: int | None = None) -> Array:
    """``round(x / scale) + zero_point``, rounded to even, saturated, of the zero point's type."""
    dtype = zero_point.dtype
    steps = np.rint(x / along(scale, x, axis)) + along(zero_point, x, axis).astype(np.float64)
    return np.clip(steps, *limits(dtype)).astype(dtype)


@host
def dequantize(x: Array, scale: Array, zero_point: Array, *, axis: int | None = None) -> Array:
    """``(x - zero_point) * scale``, in the scale's type."""
    centred = x.astype(np.int64) - along(zero_point, x, axis).astype(np.int64)
    return centred.astype(scale.dtype) * along(scale, x, axis)


@host
def centred(x: Array, zero_point: Array) -> Array:
    """``x - zero_point`` of numbers of 8 bits, as float32."""
    return x.astype(np.float32) - zero_point.astype(np.float32)


@chip
def fake_quantize(x: Array, *, scale: float, low: int, high: int) -> Array:
    """``clip(round(x / scale), low, high) * scale``: `quantize`, then `dequantize`."""
    step = number_as(x, scale)
    return np.clip(np.rint(x / step), low, high).astype(step.dtype) * step
