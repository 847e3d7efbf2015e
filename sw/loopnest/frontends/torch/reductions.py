"""Sums, means and extremes over axes, and what normalises by them."""

from math import prod
from typing import Any

import torch
from torch import fx

from .builder import Builder
from .elementwise import dtype_of
from .table import aten
from .traced import Traced


@aten("sum.dim_IntList", "sum.default")
def _sum(
    b: Builder, node: fx.Node, x: Traced, dims: Any = None, keepdim: bool = False, **unused: Any
) -> Traced:
    return b.over("sum", b.cast(x, dtype_of(node)), x.axes(dims), keepdim)


@aten("mean.dim", "mean.default")
def _mean(
    b: Builder, node: fx.Node, x: Traced, dims: Any = None, keepdim: bool = False, **unused: Any
) -> Traced:
    return b.over("mean", b.cast(x, dtype_of(node)), x.axes(dims), keepdim)


@aten("prod.default", "prod.dim_int")
def _prod(
    b: Builder, node: fx.Node, x: Traced, dim: Any = None, keepdim: bool = False, **unused: Any
) -> Traced:
    return b.over("prod", b.cast(x, dtype_of(node)), x.axes(dim), keepdim)


@aten("amax.default", "max.default")
def _amax(b: Builder, node: fx.Node, x: Traced, dims: Any = None, keepdim: bool = False) -> Traced:
    return b.over("max", x, x.axes(dims), keepdim)


@aten("amin.default", "min.default")
def _amin(b: Builder, node: fx.Node, x: Traced, dims: Any = None, keepdim: bool = False) -> Traced:
    return b.over("min", x, x.axes(dims), keepdim)


@aten("max.dim")
def _max_dim(b: Builder, node: fx.Node, x: Traced, dim: int, keepdim: bool = False) -> Any:
    return b.over("max", x, x.axes(dim), keepdim), argmax(b, x, dim, keepdim)


@aten("argmax.default")
def _argmax(
    b: Builder, node: fx.Node, x: Traced, dim: int | None = None, keepdim: bool = False
) -> Any:
    if dim is None:
        if keepdim:
            return NotImplemented
        x, dim = b.reshape(x, (prod(x.shape),)), 0
    return argmax(b, x, dim, keepdim)


def argmax(b: Builder, x: Traced, dim: int, keepdim: bool) -> Traced:
    """Return the place of the maximum along a dimension."""
    axis = x.axis(dim)
    shape = (*x.shape[:axis], *((1,) if keepdim else ()), *x.shape[axis + 1 :])
    return b.emit("argmax", [x], shape, torch.int64, axis=axis, keepdims=keepdim)


@aten("topk.default")
def _topk(
    b: Builder,
    node: fx.Node,
    x: Traced,
    k: int,
    dim: int = -1,
    largest: bool = True,
    ordered: bool = True,
) -> Any:
    axis = x.axis(dim)
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    found = {"k": k, "axis": axis, "largest": largest}
    return (
        b.emit("top_k", [x], shape, x.dtype, **found),
        b.emit("top_k", [x], shape, torch.int64, **found, indices=True),
    )


@aten("sort.default", "sort.stable")
def _sort(
    b: Builder,
    node: fx.Node,
    x: Traced,
    dim: int = -1,
    descending: bool = False,
    *,
    stable: bool | None = None,
) -> Any:
    return _topk(b, node, x, x.shape[x.axis(dim)], dim, descending)


@aten("cumsum.default")
def _cumsum(b: Builder, node: fx.Node, x: Traced, dim: int, **unused: Any) -> Traced:
    return b.unary("cumsum", b.cast(x, dtype_of(node)), axis=x.axis(dim))


@aten("var.correction", "var_mean.correction")
def _var(
    b: Builder,
    node: fx.Node,
    x: Traced,
    dims: Any = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Any:
    axes = x.axes(dims)
    count = prod(x.shape[axis] for axis in axes) - (1 if correction is None else correction)
    if count <= 0:
        return NotImplemented
    mean = b.over("mean", x, axes, keepdims=True)
    centred = b.binary("sub", x, mean)
    variance = b.mul(b.over("sum", b.mul(centred, centred), axes, keepdim), 1 / count)
    if str(node.target) == "aten.var.correction":
        return variance
    return variance, mean if keepdim else b.over("mean", x, axes)


@aten("_softmax.default", "_safe_softmax.default", "softmax.int")
def _softmax(b: Builder, node: fx.Node, x: Traced, dim: int, *unused: Any) -> Traced:
    masked = {"masked": True} if "safe" in str(node.target) else {}
    return b.unary("softmax", b.cast(x, dtype_of(node)), axis=x.axis(dim), **masked)


@aten("_log_softmax.default", "log_softmax.int")
def _log_softmax(b: Builder, node: fx.Node, x: Traced, dim: int, *unused: Any) -> Traced:
    return b.unary("softmax", b.cast(x, dtype_of(node)), axis=x.axis(dim), logarithm=True)


def _weighted(
    b: Builder, operator: str, x: Traced, weight: Traced | None, bias: Traced | None, **how: Any
) -> Traced:
    """Add a normalisation; a bias without a weight gets one of ones."""
    if weight is None and bias is not None:
        weight = b.known(torch.ones(bias.shape).numpy(), bias.dtype)
    inputs = [t for t in (x, weight, bias) if t is not None]
    return b.emit(operator, inputs, x.shape, x.dtype, **how)


@aten("layer_norm.default")
def _layer_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    shape: Any,
    weight: Traced | None = None,
    bias: Traced | None = None,
    epsilon: float = 1e-5,
    *unused: Any,
) -> Traced:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return _weighted(b, "layer_norm", x, weight, bias, axes=axes, epsilon=epsilon)


@aten("native_layer_norm.default")
def _native_layer_norm(b: Builder, node: fx.Node, *arguments: Any) -> Any:
    return (_layer_norm(b, node, *arguments), None, None)


@aten("rms_norm.default")
def _rms_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    shape: Any,
    weight: Traced | None = None,
    epsilon: float | None = None,
) -> Traced:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    epsilon = torch.finfo(x.dtype).eps if epsilon is None else epsilon
    return _weighted(b, "rms_norm", x, weight, None, axes=axes, epsilon=epsilon)


@aten("native_group_norm.default")
def _group_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced | None,
    bias: Traced | None,
    batch: int,
    channels: int,
    places: int,
    groups: int,
    epsilon: float,
) -> Any:
    found = _weighted(b, "group_norm", x, weight, bias, groups=groups, epsilon=epsilon)
    return (found, None, None)


@aten("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced | None,
    bias: Traced | None,
    mean: Traced,
    variance: Traced,
    momentum: float,
    epsilon: float,
) -> Any:
    return (_normalised(b, x, weight, bias, mean, variance, epsilon), None, None)


@aten("batch_norm.default")
def _any_batch_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced | None,
    bias: Traced | None,
    mean: Traced | None,
    variance: Traced | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *unused: Any,
) -> Any:
    if training or mean is None or variance is None:
        return NotImplemented
    return _normalised(b, x, weight, bias, mean, variance, epsilon)


def _normalised(
    b: Builder,
    x: Traced,
    weight: Traced | None,
    bias: Traced | None,
    mean: Traced,
    variance: Traced,
    epsilon: float,
) -> Traced:
    """Return a batch normalised with given statistics."""
    scale = b.unary("reciprocal", b.unary("sqrt", b.add(variance, epsilon)))
    scale = scale if weight is None else b.mul(scale, weight)
    shift = b.binary("sub", 0 if bias is None else bias, b.mul(mean, scale))
    of_channel = (-1, *(1,) * (x.ndim - 2)) if x.ndim > 2 else (-1,)
    scale, shift = (b.reshape(t, (t.shape[0], *of_channel[1:])) for t in (scale, shift))
    return b.add(b.mul(x, scale), shift)


@aten("_native_batch_norm_legit.no_stats")
def _instance_norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced | None,
    bias: Traced | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> Any:
    if x.shape[0] != 1:
        return NotImplemented
    # with a batch of 1 the statistics of a channel are those of a group of one channel
    groups = x.shape[1]
    found = _weighted(b, "group_norm", x, weight, bias, groups=groups, epsilon=epsilon)
    return (found, None, None)
