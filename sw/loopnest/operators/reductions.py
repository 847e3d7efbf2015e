"""Sums, products and extremes over axes, on the host."""

from collections.abc import Sequence

import numpy as np

from .table import Array, host


@host
def einsum(*tensors: Array, equation: str) -> Array:
    """`numpy.einsum`."""
    return np.einsum(equation, *tensors)


@host
def cumsum(x: Array, *, axis: int) -> Array:
    """`numpy.cumsum`."""
    return np.cumsum(x, axis=axis)


@host
def min_(x: Array, *, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The minimum over axes."""
    return x.min(axis=tuple(axes), keepdims=keepdims)


@host
def prod(x: Array, *, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The product over axes."""
    return x.prod(axis=tuple(axes), keepdims=keepdims)
