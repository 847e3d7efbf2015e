"""Normalisations and softmax, which the host computes."""

from collections.abc import Sequence

import numpy as np

from .table import Array, host, number_as


@host
def softmax(x: Array, *, axis: int = -1, logarithm: bool = False, masked: bool = False) -> Array:
    """``exp(x) / sum(exp(x))`` over an axis, or its logarithm. Where all of x is -inf that is NaN,
    with ``masked`` 0, as in attention.
    """
    least = np.finfo(x.dtype).min if masked else -np.inf
    shifted = x - np.nanmax(x, axis=axis, keepdims=True, initial=least)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    if masked:
        total = np.where(total == 0, 1, total)
    return shifted - np.log(total) if logarithm else np.exp(shifted) / total


@host
def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: Sequence[int],
    epsilon: float = 1e-5,
) -> Array:
    """Mean 0 and variance 1 over axes, then times ``weight`` plus ``bias``."""
    over = tuple(axes)
    centred = x - x.mean(axis=over, keepdims=True)
    variance = np.square(centred).mean(axis=over, keepdims=True)
    found = centred / np.sqrt(variance + number_as(x, epsilon))
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


@host
def rms_norm(
    x: Array, weight: Array | None = None, *, axes: Sequence[int], epsilon: float = 1e-5
) -> Array:
    """Mean square 1 over axes, then times ``weight``."""
    square = np.square(x).mean(axis=tuple(axes), keepdims=True)
    found = x / np.sqrt(square + number_as(x, epsilon))
    return found if weight is None else found * weight


@host
def group_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> Array:
    """Mean 0 and variance 1 over each group of channels of x (batch, channels, *spatial)."""
    grouped = x.reshape(x.shape[0], groups, -1)
    found = layer_norm(grouped, axes=[-1], epsilon=epsilon).reshape(x.shape)
    of_channel = (-1, *(1,) * (x.ndim - 2))
    found = found if weight is None else found * weight.reshape(of_channel)
    return found if bias is None else found + bias.reshape(of_channel)
