"""Operators that kernels compute."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .indexing import as_indices
from .table import Array, chip, number_as

Pairs = Sequence[Sequence[int]]
"""Elements added before and after, for each spatial dimension."""


# Products


@chip
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: x (..., in), weight (out, in), bias (out,)."""
    found = x @ weight.T
    return found if bias is None else found + bias


@chip
def matmul(a: Array, b: Array) -> Array:
    """`numpy.matmul`."""
    return np.matmul(a, b)


@chip
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Convolution as in neural networks (no flip) in 1 or 2 dimensions: x (batch, channels,
    *spatial), weight (filters, channels / groups, *kernel), bias (filters,).
    """
    spatial = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *map(tuple, padding)])
    windows = _windows(padded, weight.shape[2:], stride, dilation)
    batch, channels = x.shape[:2]
    filters = weight.shape[0]
    places, kernel = windows.shape[2 : 2 + spatial], weight.shape[2:]
    per_group = channels // groups
    if weight.shape[1] != per_group:
        raise ValueError(
            f"weights of shape {weight.shape} for {channels} channels in {groups} groups: expected "
            f"{per_group} channels"
        )
    grouped = windows.reshape(batch, groups, per_group, *places, *kernel)
    grouped = np.moveaxis(grouped, 2, 2 + spatial).reshape(
        batch, groups, prod(places), per_group * prod(kernel)
    )
    weights = weight.reshape(groups, filters // groups, per_group * prod(kernel))
    found = np.matmul(grouped, weights.transpose(0, 2, 1)[None])
    found = found.transpose(0, 1, 3, 2).reshape(batch, filters, *places)
    if bias is None:
        return found
    return found + bias.reshape(-1, *(1,) * spatial)


def _windows(
    padded: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Array:
    """Return the windows of the last dimensions: (batch, channels, *places, *kernel)."""
    spatial = len(kernel)
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(n < s for n, s in zip(padded.shape[2:], span, strict=True)):
        raise ValueError(f"kernel of {tuple(span)}: expected up to {padded.shape[2:]}")
    axes = tuple(range(2, 2 + spatial))
    windows = sliding_window_view(padded, span, axis=axes)
    steps = (slice(None),) * 2 + tuple(slice(None, None, s) for s in stride)
    return windows[(*steps, *(slice(None, None, d) for d in dilation))]


@chip
def embedding(ids: Array, table: Array, *, wraps: bool = False) -> Array:
    """Rows of ``table`` (rows, width): ids (...) gives (..., width); if it ``wraps``, negative ones
    count from the end.
    """
    return table[as_indices(ids)]


@chip
def embedding_bag(
    ids: Array,
    offsets: Array,
    table: Array,
    weights: Array | None = None,
    *,
    mode: str = "sum",
    padding: int | None = None,
) -> Array:
    """The ``sum``, ``mean`` or ``max`` of each bag's rows of ``table``, times ``weights`` of the
    ids if there are some: bag n is ``ids[offsets[n]:offsets[n+1]]``; the last one ends with ids.
    Ids that are ``padding`` do not count. An empty bag gives 0.
    """
    functions: dict[str, Any] = {"sum": np.sum, "mean": np.mean, "max": np.max}
    reduce = functions[mode]
    found = np.zeros((len(offsets), table.shape[1]), table.dtype)
    ends = [*map(int, offsets[1:]), len(ids)]
    for n, (begin, end) in enumerate(zip(map(int, offsets), ends, strict=True)):
        kept = np.flatnonzero(ids[begin:end] != padding) + begin
        if len(kept):
            rows = table[ids[kept]]
            found[n] = reduce(rows if weights is None else rows * weights[kept, None], axis=0)
    return found


# Element by element, with NumPy's broadcasting


@chip
def add(a: Array, b: Array) -> Array:
    """``a + b``."""
    return a + b


@chip
def sub(a: Array, b: Array) -> Array:
    """``a - b``."""
    return a - b


@chip
def mul(a: Array, b: Array) -> Array:
    """``a * b``."""
    return a * b


@chip
def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return np.maximum(x, 0)


@chip
def clamp(x: Array, *, low: float | None = None, high: float | None = None) -> Array:
    """``min(max(x, low), high)``; ReLU6 is ``clamp(x, 0, 6)``."""
    return np.clip(x, low, high)


@chip
def hardsigmoid(x: Array, *, slope: float = 1 / 6, offset: float = 0.5) -> Array:
    """``clamp(slope * x + offset, 0, 1)``."""
    return np.clip(number_as(x, slope) * x + number_as(x, offset), 0, 1)


@chip
def hardswish(x: Array) -> Array:
    """``x * clamp(x / 6 + 1/2, 0, 1)``."""
    return x * hardsigmoid(x)


# Over axes


@chip
def sum_(x: Array, *, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The sum over axes."""
    return x.sum(axis=tuple(axes), keepdims=keepdims)


@chip
def mean(x: Array, *, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The mean over axes."""
    return x.mean(axis=tuple(axes), keepdims=keepdims)


@chip
def max_(x: Array, *, axes: Sequence[int], keepdims: bool = False) -> Array:
    """The maximum over axes."""
    return x.max(axis=tuple(axes), keepdims=keepdims)


@chip
def max_pool(
    x: Array,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> Array:
    """The maximum of each window of x (batch, channels, *spatial); padding does not count."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    pads = [(0, 0), (0, 0), *map(tuple, padding)]
    windows = _windows(np.pad(x, pads, constant_values=lowest), kernel, stride, dilation)
    return windows.max(axis=tuple(range(-len(kernel), 0)))


@chip
def avg_pool(
    x: Array,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Array:
    """The mean of each window of x (batch, channels, *spatial); with ``count_padding`` the padding
    counts as elements of 0; ``divisor`` instead of the number of elements, if given.
    """
    ones = [1] * len(kernel)
    pads = [(0, 0), (0, 0), *map(tuple, padding)]
    axes = tuple(range(-len(kernel), 0))
    sums = _windows(np.pad(x, pads), kernel, stride, ones).sum(axis=axes)
    if divisor is not None or count_padding:
        return sums / number_as(x, divisor or prod(kernel))
    there = np.pad(np.ones((1, 1, *x.shape[2:]), x.dtype), pads)
    return sums / _windows(there, kernel, stride, ones).sum(axis=axes)


# Arrangement


@chip
def reshape(x: Array, *, shape: Sequence[int]) -> Array:
    """`numpy.reshape`; the shape has no -1."""
    return x.reshape(tuple(shape))


@chip
def transpose(x: Array, *, axes: Sequence[int]) -> Array:
    """`numpy.transpose`."""
    return x.transpose(tuple(axes))


@chip
def broadcast(x: Array, *, shape: Sequence[int]) -> Array:
    """`numpy.broadcast_to`."""
    return np.broadcast_to(x, tuple(shape))


@chip
def slice_(
    x: Array,
    *,
    axes: Sequence[int],
    starts: Sequence[int],
    stops: Sequence[int],
    steps: Sequence[int],
) -> Array:
    """``x[start:stop:step]`` along axes; steps are positive."""
    index: list[slice] = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


@chip
def pad(x: Array, *, padding: Pairs, value: float = 0) -> Array:
    """`numpy.pad` with a constant: (before, after) for each axis."""
    return np.pad(x, [tuple(p) for p in padding], constant_values=value)


@chip
def concat(*tensors: Array, axis: int) -> Array:
    """`numpy.concatenate`."""
    return np.concatenate(tensors, axis=axis)
