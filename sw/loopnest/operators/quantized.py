"""Conversion between floating-point numbers and integers with a scale and a zero point."""

import numpy as np

from .table import Array, operator

host = operator(on_chip=False)


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


@host
def quantize(x: Array, scale: Array, zero_point: Array, *, axis: int | None = None) -> Array:
    """``round(x / scale) + zero_point``, rounded to even, saturated, of the zero point's type."""
    dtype = zero_point.dtype
    steps = np.rint(x / along(scale, x, axis)) + along(zero_point, x, axis).astype(np.float64)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = limits.min, limits.max
    else:  # integers of 4 bits, which NumPy knows by name only
        low, high = (-8, 7) if dtype.name == "int4" else (0, 15)
    return np.clip(steps, low, high).astype(dtype)


@host
def dequantize(x: Array, scale: Array, zero_point: Array, *, axis: int | None = None) -> Array:
    """``(x - zero_point) * scale``, in the scale's type."""
    centred = x.astype(np.int64) - along(zero_point, x, axis).astype(np.int64)
    return centred.astype(scale.dtype) * along(scale, x, axis)
