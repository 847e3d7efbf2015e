"""Convolutions and products of matrices."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...graph.steps import Quantized
from .builder import Builder, Value
from .elementwise import cast_to
from .node import OnnxNode, converts

Pairs = list[tuple[int, int]]


@converts("MatMul")
def matmul(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.matmul`; with a known matrix on the right, a linear layer."""
    return product(builder, *node.values())


def product(builder: Builder, a: Value, b: Value) -> Value:
    """Emit a product of matrices."""
    if b.known and b.ndim == 2 and a.ndim > 0:
        return builder.emit("linear", a, transposed(builder, b))
    return builder.emit("matmul", a, b)


def transposed(builder: Builder, x: Value) -> Value:
    """Emit the exchange of the last two axes."""
    axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return builder.emit("transpose", x, axes=axes)


@converts("Gemm")
def gemm(builder: Builder, node: OnnxNode) -> Value:
    """``alpha * A' @ B' + beta * C``; the factors go into what is known."""
    a, b, c = node.input(0), node.input(1), node.optional(2)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        a = transposed(builder, a)
    if not node.attribute("transB", 0):
        b = transposed(builder, b)
    if alpha != 1:
        if b.known:
            b = builder.emit("mul", b, builder.like(alpha, b))
        else:
            a = builder.emit("mul", a, builder.like(alpha, a))
    if c is not None and beta == 0:
        c = None
    if c is not None and beta != 1:
        c = builder.emit("mul", c, builder.like(beta, c))
    if (
        c is not None
        and b.known
        and c.known
        and prod(c.shape) in (1, b.shape[0])
        and (c.ndim == 0 or c.shape[-1] == prod(c.shape))
    ):
        bias = builder.emit("reshape", c, shape=(prod(c.shape),))
        bias = builder.emit("broadcast", bias, shape=(b.shape[0],))
        return builder.emit("linear", a, b, bias)
    if b.known:
        found = builder.emit("linear", a, b)
    else:
        found = builder.emit("matmul", a, transposed(builder, b))
    return found if c is None else builder.emit("add", found, c)


@converts("Einsum")
def einsum(builder: Builder, node: OnnxNode) -> Value:
    """`numpy.einsum`."""
    equation = node.attribute("equation", b"")
    return builder.emit("einsum", *node.values(), equation=equation.replace(" ", ""))


@converts("Conv")
def conv(builder: Builder, node: OnnxNode) -> Value:
    """Convolution of x (batch, channels, *spatial) with weights (filters, channels / groups,
    *kernel).
    """
    x, weight, bias = node.input(0), node.input(1), node.optional(2)
    kernel = _kernel(node, x, weight)
    stride, dilation = windows(node, len(kernel))
    padding = pads(node, x.shape[2:], kernel, stride, dilation)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return builder.emit(
        "conv",
        *inputs,
        stride=stride,
        padding=tuple(padding),
        dilation=dilation,
        groups=int(node.attribute("group", 1)),
    )


def _kernel(node: OnnxNode, x: Value, weight: Value) -> tuple[int, ...]:
    if x.ndim < 3 or weight.ndim != x.ndim:
        raise ValueError(
            f"an input of shape {x.shape} and weights of shape {weight.shape}: expected (batch, "
            "channels, spatial...) and (filters, channels, kernel...)"
        )
    kernel = tuple(weight.shape[2:])
    given = node.attribute("kernel_shape", kernel)
    if tuple(given) != kernel:
        raise ValueError(f"kernel_shape = {tuple(given)}: expected {kernel}, as the weights have")
    return kernel


def windows(node: OnnxNode, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides and dilations."""
    found = []
    for name in ("strides", "dilations"):
        steps = tuple(int(n) for n in node.attribute(name, (1,) * rank))
        if len(steps) != rank or min(steps, default=1) < 1:
            raise ValueError(f"{name} = {steps}: expected {rank} numbers of 1 or more")
        found.append(steps)
    return found[0], found[1]


def pads(
    node: OnnxNode,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Return the padding before and after each spatial dimension."""
    rank = len(kernel)
    node.refuse("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    auto = node.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        flat = [int(n) for n in node.attribute("pads", (0,) * 2 * rank)]
        if len(flat) != 2 * rank:
            raise ValueError(f"pads = {flat}: expected {2 * rank} numbers")
        return list(zip(flat[:rank], flat[rank:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * rank
    found = []
    for size, k, s, d in zip(shape, kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return found


@converts("ConvTranspose")
def conv_transpose(builder: Builder, node: OnnxNode) -> Value:
    """Transposed convolution: a convolution, with the weights mirrored, of x with zeros between
    its elements.
    """
    x, weight, bias = node.input(0), node.input(1), node.optional(2)
    kernel = _kernel(node, x, weight)
    rank, groups = len(kernel), int(node.attribute("group", 1))
    stride, dilation = windows(node, rank)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    extra = [int(n) for n in node.attribute("output_padding", (0,) * rank)]
    places = [(n - 1) * s + w for n, s, w in zip(x.shape[2:], stride, span, strict=True)]
    # Elements that are cut off the full result, before and after
    cut = _cut(node, x, places, extra, stride)
    mirrored = _mirrored(builder, weight, groups)
    spread = x
    for axis, (step, size) in enumerate(zip(stride, x.shape[2:], strict=True), 2):
        if step > 1:
            spread = _spread(builder, spread, axis, step, size)
    padding = [
        (w - 1 - before, w - 1 - after) for w, (before, after) in zip(span, cut, strict=True)
    ]
    if any(min(pair) < 0 for pair in padding):
        around = [(0, 0), (0, 0), *padding]
        spread = padded(builder, spread, around)
        padding = [(0, 0)] * rank
    inputs = (spread, mirrored) if bias is None else (spread, mirrored, bias)
    return builder.emit(
        "conv",
        *inputs,
        stride=(1,) * rank,
        padding=tuple(padding),
        dilation=dilation,
        groups=groups,
    )


def _cut(
    node: OnnxNode, x: Value, places: Sequence[int], extra: Sequence[int], stride: Sequence[int]
) -> Pairs:
    """Return how much of a full transposed convolution is cut off before and after."""
    rank = len(places)
    shape = node.attribute("output_shape", None)
    auto = node.attribute("auto_pad", "NOTSET")
    if shape is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        shape = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    if shape is None:
        given = pads(node, x.shape[2:], (1,) * rank, (1,) * rank, (1,) * rank)
        return [(b, a - e) for (b, a), e in zip(given, extra, strict=True)]
    found = []
    for full, more, size in zip(places, extra, list(shape)[-rank:], strict=True):
        total = full + more - int(size)
        half = total // 2
        before = half if auto == "SAME_UPPER" else total - half
        found.append((before, total - before - more))
    return found


def _mirrored(builder: Builder, weight: Value, groups: int) -> Value:
    """Return weights (channels, filters / groups, *kernel) as a convolution wants them: (filters,
    channels / groups, *kernel), mirrored.
    """
    if not weight.known:
        raise ValueError(f"weights {weight.name!r} are computed: expected a constant")
    channels, per_group, *kernel = weight.shape

    def moved(array: NDArray[Any]) -> NDArray[Any]:
        grouped = array.reshape(groups, channels // groups, per_group, *kernel)
        swapped = grouped.swapaxes(1, 2).reshape(groups * per_group, channels // groups, *kernel)
        return np.flip(swapped, tuple(range(2, swapped.ndim)))

    own = weight.content
    if isinstance(own, Quantized) and (own.axis is None or (own.axis == 1 and groups == 1)):
        axis = None if own.axis is None else 0
        return builder.known(Quantized(moved(own.integers), own.scale, axis))
    return builder.known(moved(weight.array))


def _spread(builder: Builder, x: Value, axis: int, step: int, size: int) -> Value:
    """Put ``step - 1`` zeros between the elements of an axis."""
    apart = builder.emit("reshape", x, shape=(*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    padding = [(0, 0)] * apart.ndim
    padding[axis + 1] = (0, step - 1)
    apart = builder.emit("pad", apart, padding=tuple(padding), value=0)
    shape = (*x.shape[:axis], size * step, *x.shape[axis + 1 :])
    joined = builder.emit("reshape", apart, shape=shape)
    return sliced(builder, joined, axis, 0, (size - 1) * step + 1)


def sliced(builder: Builder, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Emit a slice along one axis, if it is not everything."""
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    return builder.emit("slice", x, axes=(axis,), starts=(start,), stops=(stop,), steps=(step,))


def padded(builder: Builder, x: Value, padding: Pairs, value: float = 0) -> Value:
    """Emit a padding with a number; where it is negative, a slice."""
    for axis, (before, after) in enumerate(padding):
        if before < 0 or after < 0:
            x = sliced(builder, x, axis, max(0, -before), x.shape[axis] + min(0, after))
    positive = tuple((max(0, before), max(0, after)) for before, after in padding)
    if any(map(any, positive)):
        x = builder.emit("pad", x, padding=positive, value=value)
    return x


@converts("Resize", "Upsample")
def resize(builder: Builder, node: OnnxNode) -> Value:
    """Interpolation along each axis: a product with a sparse matrix of its weights; a broadcast if
    that repeats all elements as often, and a slice if it chooses some in equal steps.
    """
    from .interpolate import chooses, resizing, steps_between, times_repeated

    x = node.input()
    dtype, axes = x.dtype, resizing(node, x)
    if dtype.kind != "f" and not all(chooses(matrix) for _, matrix in axes):
        x = cast_to(builder, x, np.dtype(np.float32))
    for axis, matrix in axes:
        if times := times_repeated(matrix):
            x = _repeated(builder, x, axis, times)
        elif (step := steps_between(matrix)) is not None:
            x = sliced(builder, x, axis, step.start, step.stop, step.step)
        else:
            x = _interpolated(builder, x, axis, matrix)
    return cast_to(builder, x, dtype)


def _repeated(builder: Builder, x: Value, axis: int, times: int) -> Value:
    """Repeat each element of an axis in place; one axis at a time, since kernels have few modes."""
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    found = builder.emit("reshape", x, shape=(*before, size, 1, *after))
    found = builder.emit("broadcast", found, shape=(*before, size, times, *after))
    return builder.emit("reshape", found, shape=(*before, size * times, *after))


def _interpolated(builder: Builder, x: Value, axis: int, matrix: Any) -> Value:
    """Emit the product of an axis with a matrix (new size, old size)."""
    weights = builder.known(matrix.astype(x.dtype))
    axes = [n for n in range(x.ndim) if n != axis] + [axis]
    if axis == x.ndim - 1:
        return builder.emit("linear", x, weights)
    moved = builder.emit("transpose", x, axes=tuple(axes))
    moved = builder.emit("linear", moved, weights)
    back = tuple(int(n) for n in np.argsort(axes))
    return builder.emit("transpose", moved, axes=back)


# Products of integers


@converts("MatMulInteger")
def matmul_integer(builder: Builder, node: OnnxNode) -> Value:
    """The product of int8 matrices, with zero points, in int32."""
    a, b = _centred(builder, node, 0, -2), _centred(builder, node, 1, -1)
    return _integers(builder, product(builder, a, b))


@converts("ConvInteger")
def conv_integer(builder: Builder, node: OnnxNode) -> Value:
    """The convolution of int8 tensors, with zero points, in int32."""
    x, weight = _centred(builder, node, 0, 0), _centred(builder, node, 1, 0)
    plain = OnnxNode("Conv", (x, weight), node.outputs, node.attributes, node.opset)
    return _integers(builder, conv(builder, plain))


def _centred(builder: Builder, node: OnnxNode, at: int, axis: int) -> Value:
    """Return an input's int8 numbers less their zero point, as float32; several of them are along
    an axis.
    """
    x, zero = node.input(at), node.optional(at + 2)
    if zero is None:
        zero = builder.known(np.zeros((), x.dtype))
    if zero.ndim == 1 and zero.shape[0] > 1:
        shape = [-1 if n == axis % x.ndim else 1 for n in range(x.ndim)]
        shape[axis] = zero.shape[0]
        zero = builder.emit("reshape", zero, shape=tuple(shape))
    elif prod(zero.shape) == 1 and zero.ndim:
        zero = builder.emit("reshape", zero, shape=())
    if x.known and zero.known:
        numbers = x.array.astype(np.int32) - zero.array.astype(np.int32)
        return builder.known(Quantized(numbers, np.float32(1), None))
    return builder.emit("centred", x, zero)


def _integers(builder: Builder, found: Value) -> Value:
    """Emit the conversion of a product of integers to int32."""
    if found.known:
        return cast_to(builder, found, np.dtype(np.int32))
    limit = (1 << 31) - 1
    exact = builder.emit("fake_quantize", found, scale=1.0, low=-limit, high=limit)
    wide = cast_to(builder, exact, np.dtype(np.int32))
    builder.integers[wide.name] = exact
    return wide
