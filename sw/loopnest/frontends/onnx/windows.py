"""Pooling, reductions and normalisations."""

from math import prod

import numpy as np

from .builder import Builder, Value
from .elementwise import cast_to
from .node import OnnxNode, converts, from_front
from .products import Pairs, padded, pads, windows


def _pooling(node: OnnxNode, x: Value) -> tuple[tuple[int, ...], ...]:
    kernel = tuple(int(n) for n in node.attribute("kernel_shape", ()))
    if len(kernel) != x.ndim - 2:
        raise ValueError(
            f"kernel_shape = {kernel}: expected {x.ndim - 2} numbers, for an input of shape "
            f"{x.shape}"
        )
    return (kernel, *windows(node, len(kernel)))


def _rounded_up(
    node: OnnxNode,
    x: Value,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: Pairs,
) -> list[int]:
    """Return how many elements the last window lacks after the padding, in each dimension."""
    if not node.attribute("ceil_mode", 0):
        return [0] * len(kernel)
    found = []
    for n, k, s, d, (before, after) in zip(
        x.shape[2:], kernel, stride, dilation, padding, strict=True
    ):
        span = (k - 1) * d + 1
        places = -(-(n + before + after - span) // s) + 1
        if (places - 1) * s >= n + before:  # it would begin in the padding
            places -= 1
        found.append(max(0, (places - 1) * s + span - (n + before + after)))
    return found


@converts("MaxPool")
def max_pool(builder: Builder, node: OnnxNode) -> Value:
    """The maximum of each window."""
    node.only_first_output()
    x = node.input()
    kernel, stride, dilation = _pooling(node, x)
    padding = pads(node, x.shape[2:], kernel, stride, dilation)
    more = _rounded_up(node, x, kernel, stride, dilation, padding)
    padding = [(before, after + m) for (before, after), m in zip(padding, more, strict=True)]
    return builder.emit(
        "max_pool", x, kernel=kernel, stride=stride, padding=tuple(padding), dilation=dilation
    )


@converts("AveragePool")
def average_pool(builder: Builder, node: OnnxNode) -> Value:
    """The mean of each window; what rounding up adds at the end is never counted."""
    x = node.input()
    kernel, stride, dilation = _pooling(node, x)
    if max(dilation) > 1:
        raise ValueError(f"dilations = {dilation}: expected 1")
    padding = pads(node, x.shape[2:], kernel, stride, dilation)
    more = _rounded_up(node, x, kernel, stride, dilation, padding)
    count = bool(node.attribute("count_include_pad", 0))
    if any(more) and count:
        x = padded(builder, x, [(0, 0), (0, 0), *padding])
        padding, count = [(0, 0)] * len(kernel), False
    padding = [(before, after + m) for (before, after), m in zip(padding, more, strict=True)]
    return builder.emit(
        "avg_pool", x, kernel=kernel, stride=stride, padding=tuple(padding), count_padding=count
    )


@converts("GlobalAveragePool", "GlobalMaxPool")
def global_pool(builder: Builder, node: OnnxNode) -> Value:
    """The mean or maximum of each channel."""
    x = node.input()
    operator = "mean" if node.operator == "GlobalAveragePool" else "max"
    return builder.emit(operator, x, axes=tuple(range(2, x.ndim)), keepdims=True)


REDUCTIONS = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
}


@converts(*REDUCTIONS, "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def reduction(builder: Builder, node: OnnxNode) -> Value:
    """Reductions over axes, which are an attribute or an input."""
    x = node.input()
    given = node.numbers("axes", 1)
    if not given and node.attribute("noop_with_empty_axes", 0):
        axes: tuple[int, ...] = ()
    else:
        axes = tuple(sorted(from_front(n, x.ndim) for n in given or range(x.ndim)))
    keep = bool(node.attribute("keepdims", 1))

    def over(operator: str, y: Value) -> Value:
        if not axes:
            return y
        return cast_to(builder, builder.emit(operator, y, axes=axes, keepdims=keep), x.dtype)

    match node.operator:
        case "ReduceL1":
            return over("sum", builder.emit("abs", x))
        case "ReduceL2":
            return builder.emit("sqrt", over("sum", builder.emit("mul", x, x)))
        case "ReduceSumSquare":
            return over("sum", builder.emit("mul", x, x))
        case "ReduceLogSum":
            return builder.emit("log", over("sum", x))
        case "ReduceLogSumExp":
            if not axes or 0 in x.shape:
                return builder.emit("log", over("sum", builder.emit("exp", x)))
            top = builder.emit("max", x, axes=axes, keepdims=True)
            shifted = builder.emit("exp", builder.emit("sub", x, top))
            logs = builder.emit("log", over("sum", shifted))
            return builder.emit("add", logs, builder.emit("reshape", top, shape=logs.shape))
        case _:
            return over(REDUCTIONS[node.operator], x)


@converts("ArgMax", "ArgMin")
def arg_max(builder: Builder, node: OnnxNode) -> Value:
    """The index of the largest or smallest element along an axis."""
    x = node.input()
    node.refuse("select_last_index", 0)
    if node.operator == "ArgMin":
        x = builder.emit("mul", x, builder.like(-1, x))
    keep = bool(node.attribute("keepdims", 1))
    found = builder.emit("argmax", x, axis=node.axis(0, x.ndim), keepdims=keep)
    return cast_to(builder, found, np.dtype(np.int64))


@converts("Softmax", "LogSoftmax")
def softmax(builder: Builder, node: OnnxNode) -> Value:
    """Softmax over an axis; before opset 13, over that axis and all after it."""
    x = node.input()
    logarithm = node.operator == "LogSoftmax"
    if node.opset >= 13:
        return builder.emit("softmax", x, axis=node.axis(-1, x.ndim), logarithm=logarithm)
    axis = node.axis(1, x.ndim)
    if axis == x.ndim - 1:
        return builder.emit("softmax", x, axis=axis, logarithm=logarithm)
    rows = (*x.shape[:axis], prod(x.shape[axis:]))
    flat = builder.emit("reshape", x, shape=rows)
    found = builder.emit("softmax", flat, axis=axis, logarithm=logarithm)
    return builder.emit("reshape", found, shape=x.shape)


@converts("LayerNormalization")
def layer_norm(builder: Builder, node: OnnxNode) -> Value:
    """Mean 0 and variance 1 over an axis and all after it."""
    node.only_first_output()
    x = node.input()
    axes = tuple(range(node.axis(-1, x.ndim), x.ndim))
    epsilon = node.attribute("epsilon", 1e-5)
    return builder.emit("layer_norm", *node.values(), axes=axes, epsilon=epsilon)


@converts("RMSNormalization")
def rms_norm(builder: Builder, node: OnnxNode) -> Value:
    """Mean square 1 over an axis and all after it."""
    x = node.input()
    axes = tuple(range(node.axis(-1, x.ndim), x.ndim))
    epsilon = node.attribute("epsilon", 1e-5)
    return builder.emit("rms_norm", *node.values(), axes=axes, epsilon=epsilon)


@converts("InstanceNormalization", "GroupNormalization")
def group_norm(builder: Builder, node: OnnxNode) -> Value:
    """Mean 0 and variance 1 over groups of channels; each channel is one in an instance norm."""
    x, weight, bias = node.values()
    channels = x.shape[1]
    groups = int(node.attribute("num_groups", channels))
    if node.operator == "GroupNormalization" and node.opset < 21:
        # one weight for each group
        weight, bias = (
            builder.emit(
                "reshape",
                builder.emit(
                    "broadcast",
                    builder.emit("reshape", w, shape=(groups, 1)),
                    shape=(groups, channels // groups),
                ),
                shape=(channels,),
            )
            for w in (weight, bias)
        )
    epsilon = node.attribute("epsilon", 1e-5)
    return builder.emit("group_norm", x, weight, bias, groups=groups, epsilon=epsilon)


@converts("BatchNormalization")
def batch_norm(builder: Builder, node: OnnxNode) -> Value:
    """A factor and an offset for each channel."""
    node.refuse("training_mode", 0)
    node.refuse("spatial", 1)
    node.only_first_output()
    x = node.input()
    across = (-1, *(1,) * (x.ndim - 2))
    epsilon = node.attribute("epsilon", 1e-5)
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, variance = (
        node.known(at, name).astype(np.float64) for at, name in enumerate(names, 1)
    )
    factor = scale / np.sqrt(variance + epsilon)
    offset = bias - mean * factor
    factors, offsets = (builder.known(a.reshape(across).astype(x.dtype)) for a in (factor, offset))
    return builder.emit("add", builder.emit("mul", x, factors), offsets)
