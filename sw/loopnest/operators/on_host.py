"""Operators that the host computes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import erf as scipy_erf
from scipy.special import expit

from .table import Array, number_as, operator

host = operator(on_chip=False)


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


@host
def gelu(x: Array, *, approximate: bool = False) -> Array:
    """``x * Phi(x)``, or its approximation by tanh."""
    if approximate:
        inner = number_as(x, np.sqrt(2 / np.pi)) * (x + number_as(x, 0.044715) * x**3)
        return number_as(x, 0.5) * x * (1 + np.tanh(inner))
    return number_as(x, 0.5) * x * (1 + erf(x / number_as(x, np.sqrt(2))))


@host
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``."""
    return x * sigmoid(x)


@host
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    return expit(x).astype(x.dtype)


@host
def tanh(x: Array) -> Array:
    """`numpy.tanh`."""
    return np.tanh(x)


@host
def erf(x: Array) -> Array:
    """The error function."""
    return scipy_erf(x).astype(x.dtype)


@host
def exp(x: Array) -> Array:
    """`numpy.exp`."""
    return np.exp(x)


@host
def log(x: Array) -> Array:
    """`numpy.log`."""
    return np.log(x)


@host
def sqrt(x: Array) -> Array:
    """`numpy.sqrt`."""
    return np.sqrt(x)


@host
def reciprocal(x: Array) -> Array:
    """``1 / x``."""
    return 1 / x


@host
def abs_(x: Array) -> Array:
    """`numpy.abs`."""
    return np.abs(x)


@host
def sin(x: Array) -> Array:
    """`numpy.sin`."""
    return np.sin(x)


@host
def cos(x: Array) -> Array:
    """`numpy.cos`."""
    return np.cos(x)


@host
def floor(x: Array) -> Array:
    """`numpy.floor`."""
    return np.floor(x)


@host
def ceil(x: Array) -> Array:
    """`numpy.ceil`."""
    return np.ceil(x)


@host
def sign(x: Array) -> Array:
    """`numpy.sign`."""
    return np.sign(x)


@host
def leaky_relu(x: Array, *, slope: float = 0.01) -> Array:
    """``x`` where that is positive, otherwise ``slope * x``."""
    return np.where(x >= 0, x, number_as(x, slope) * x)


@host
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """``x`` where that is positive, otherwise ``alpha * (exp(x) - 1)``."""
    return np.where(x > 0, x, number_as(x, alpha) * np.expm1(np.minimum(x, 0)))


@host
def div(a: Array, b: Array) -> Array:
    """``a / b``; of integers, rounded toward 0."""
    if np.result_type(a, b).kind == "f":
        return a / b
    return np.trunc(a / b).astype(np.result_type(a, b))


@host
def mod(a: Array, b: Array, *, truncated: bool = False) -> Array:
    """The remainder of a division, with the sign of ``b``; of a ``truncated`` one, of ``a``."""
    return np.fmod(a, b) if truncated else np.mod(a, b)


@host
def pow_(a: Array, b: Array) -> Array:
    """``a ** b``."""
    return np.power(a, b)


@host
def minimum(a: Array, b: Array) -> Array:
    """`numpy.minimum`."""
    return np.minimum(a, b)


@host
def maximum(a: Array, b: Array) -> Array:
    """`numpy.maximum`."""
    return np.maximum(a, b)


@host
def compare(a: Array, b: Array, *, relation: str) -> Array:
    """Compare: ``relation`` is ``equal``, ``not_equal``, ``less``, ``greater_equal``, ..."""
    return getattr(np, relation)(a, b)


@host
def logical(a: Array, b: Array, *, operation: str) -> Array:
    """``and``, ``or`` or ``xor`` of truth values."""
    return getattr(np, f"logical_{operation}")(a, b)


@host
def not_(x: Array) -> Array:
    """`numpy.logical_not`."""
    return np.logical_not(x)


@host
def isnan(x: Array) -> Array:
    """`numpy.isnan`."""
    return np.isnan(x)


@host
def where(condition: Array, a: Array, b: Array) -> Array:
    """`numpy.where`."""
    return np.where(condition, a, b)


@host
def gather(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """`numpy.take` along an axis."""
    return np.take(x, np.asarray(indices, np.int64), axis=axis)


@host
def take_along(x: Array, indices: Array, *, axis: int) -> Array:
    """Elements of a part of ``x``: each index is a position along an axis, at the index's own
    position along the others.
    """
    return x[_places(indices, axis)]


def _places(indices: Array, axis: int) -> tuple[Array, ...]:
    """Return the positions along each axis: ``indices`` along one, and their own along others."""
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = np.asarray(indices, np.int64)
    return tuple(places)


@host
def gather_nd(x: Array, indices: Array, *, batch_axes: int = 0) -> Array:
    """``x[*batch, *index]`` for each index (..., axes) after ``batch_axes`` that both share."""
    shared = indices.shape[:batch_axes]
    flat = x.reshape(-1, *x.shape[batch_axes:])
    index = np.asarray(indices, np.int64).reshape(len(flat), -1, indices.shape[-1])
    batch = np.arange(len(flat))[:, None]
    found = flat[(batch, *np.moveaxis(index, -1, 0))]
    return found.reshape(*shared, *indices.shape[batch_axes:-1], *found.shape[2:])


@host
def einsum(*tensors: Array, equation: str) -> Array:
    """`numpy.einsum`."""
    return np.einsum(equation, *tensors)


@host
def cast(x: Array, *, dtype: str) -> Array:
    """``x.astype(dtype)``."""
    return x.astype(dtype)


@host
def round_(x: Array) -> Array:
    """Round to nearest even."""
    return np.rint(x)


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


@host
def argmax(x: Array, *, axis: int, keepdims: bool = False) -> Array:
    """`numpy.argmax`."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@host
def top_k(
    x: Array, *, k: int, axis: int = -1, largest: bool = True, indices: bool = False
) -> Array:
    """The k largest (or smallest) elements along an axis in their order, or their indices."""
    # backwards twice, so that of equal elements the first one comes first
    keys = np.flip(x, axis) if largest else x
    order = np.argsort(keys, axis=axis, kind="stable")
    order = x.shape[axis] - 1 - np.flip(order, axis) if largest else order
    order = np.take(order, np.arange(k), axis=axis)
    return order if indices else np.take_along_axis(x, order, axis=axis)


@host
def scatter(x: Array, indices: Array, updates: Array, *, axis: int) -> Array:
    """``x`` with ``updates`` put where ``indices`` say along an axis, as `take_along`."""
    found = x.copy()
    found[_places(indices, axis)] = updates
    return found


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
def to_steps(x: Array, *, scale: float, low: int, high: int) -> Array:
    """``round(x / scale)`` from ``low`` to ``high``: integers that stand for ``scale`` each."""
    if np.isnan(x).any():
        raise ValueError("NaN: expected numbers that an int8 chip can represent")
    return np.clip(np.rint(x / scale), low, high).astype(np.int32)


@host
def from_steps(x: Array, *, scale: float) -> Array:
    """``x * scale``: the real numbers that integers stand for."""
    return (x * scale).astype(np.float32)


@host
def one_hot(ids: Array, *, rows: int) -> Any:
    """A sparse matrix with a 1 for each element of ``ids``, in the column that it names."""
    flat = _rows(ids, rows)
    return sp.csr_array(
        (np.ones(flat.size, np.float32), (np.arange(flat.size), flat)), (flat.size, rows)
    )


@host
def bags(ids: Array, offsets: Array, *, rows: int, mode: str = "sum") -> Any:
    """A sparse matrix that sums the rows of a table by bags (`embedding_bag`), or averages them."""
    flat = _rows(ids, rows)
    counts = np.diff([*map(int, offsets), flat.size])
    of = np.repeat(np.arange(len(counts)), counts)
    weight = np.ones(flat.size, np.float32)
    if mode == "mean":
        weight /= counts[of]
    return sp.csr_array((weight, (of, flat)), (len(counts), rows))


def _rows(ids: Array, rows: int) -> Array:
    """Return indices of a table's rows, in one dimension."""
    flat = np.asarray(ids, np.int64).reshape(-1)
    outside = flat[(flat < 0) | (flat >= rows)]
    if outside.size:
        raise ValueError(f"index {outside[0]}: expected 0 to {rows - 1}")
    return flat


@host
def call(*inputs: Array, function: Callable[..., Any]) -> Array:
    """What ``function(*inputs)`` returns: an operator of a library that graphs do not have."""
    return np.asarray(function(*inputs))
