"""Quantised tensors: what is known is folded, what is computed rounds as the file says.

Operators of ONNX Runtime on quantised tensors (the domain com.microsoft) are those of ONNX between
`dequantize` and `quantize`.
"""

from collections.abc import Sequence

import numpy as np

from .builder import Builder, Value
from .elementwise import cast_to, onnx_dtype
from .node import CONVERTERS, OnnxNode, converts
from .products import conv, product


def _axis(node: OnnxNode, x: Value, scale: Value) -> int | None:
    """Return the axis of the scales, None for one scale.

    Raises
    ------
    ValueError
        If their number is not that of the axis' places, or of its blocks.
    """
    if np.prod(scale.shape) == 1:
        return None
    axis = node.axis(1, x.ndim)
    block = int(node.attribute("block_size", 0))
    if scale.ndim == x.ndim and block:
        expected = tuple(-(-n // block) if a == axis else n for a, n in enumerate(x.shape))
    else:
        expected = (x.shape[axis],)
    if scale.shape != expected:
        raise ValueError(f"scales of shape {scale.shape} for {x.shape}: expected {expected}")
    return axis


def quantize(builder: Builder, x: Value, scale: Value, zero: Value, axis: int | None) -> Value:
    """Emit ``round(x / scale) + zero``."""
    return builder.emit("quantize", x, scale, zero, axis=axis)


def dequantize(
    builder: Builder, x: Value, scale: Value, zero: Value | None, axis: int | None = None
) -> Value:
    """Emit ``(x - zero) * scale``."""
    zero = builder.known(np.zeros(scale.shape, x.dtype)) if zero is None else zero
    return builder.emit("dequantize", x, scale, zero, axis=axis)


def positive(scale: Value) -> Value:
    """Return a scale.

    Raises
    ------
    ValueError
        For a known one that is not a positive number.
    """
    if scale.known and not np.all((scale.array > 0) & np.isfinite(scale.array)):
        wrong = scale.array[~((scale.array > 0) & np.isfinite(scale.array))].reshape(-1)[0]
        raise ValueError(f"scale {scale.name!r} of {wrong}: expected positive numbers")
    return scale


@converts("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize_linear(builder: Builder, node: OnnxNode) -> Value:
    """``round(x / scale) + zero``, in the zero point's type; uint8 without one."""
    x, scale, zero = node.input(0), positive(node.input(1)), node.optional(2)
    if zero is None:
        asked = node.attribute("output_dtype", 0)
        dtype = onnx_dtype(asked) if asked else np.dtype(np.uint8)
        zero = builder.known(np.zeros(scale.shape, dtype))
    if zero.dtype.kind == "f" or zero.dtype.name.startswith("float"):
        raise ValueError(f"zero point of type {zero.dtype}: expected integers")
    return quantize(builder, x, scale, zero, _axis(node, x, scale))


@converts("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize_linear(builder: Builder, node: OnnxNode) -> Value:
    """``(x - zero) * scale``."""
    x, scale, zero = node.input(0), positive(node.input(1)), node.optional(2)
    return dequantize(builder, x, scale, zero, _axis(node, x, scale))


@converts("QLinearMatMul")
def qlinear_matmul(builder: Builder, node: OnnxNode) -> Value:
    """A product of dequantised matrices, quantised."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.values()
    a = dequantize(builder, a, a_scale, a_zero, None if a_scale.scalar else a.ndim - 2)
    b = dequantize(builder, b, b_scale, b_zero, None if b_scale.scalar else b.ndim - 1)
    found = product(builder, a, b)
    return quantize(builder, found, y_scale, y_zero, None if y_scale.scalar else found.ndim - 2)


@converts("QLinearConv")
def qlinear_conv(builder: Builder, node: OnnxNode) -> Value:
    """A convolution of dequantised tensors, quantised; the bias counts products of scales."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.values()[:8]
    bias = node.optional(8)
    x = dequantize(builder, x, x_scale, x_zero)
    w = dequantize(builder, w, w_scale, w_zero, None if w_scale.scalar else 0)
    inputs = [x, w]
    if bias is not None:
        unit = builder.emit("mul", x_scale, w_scale)
        counted = cast_to(builder, bias, unit.dtype)
        inputs.append(builder.emit("mul", counted, unit))
    plain = OnnxNode("Conv", tuple(inputs), node.outputs, node.attributes, node.opset)
    return quantize(builder, conv(builder, plain), y_scale, y_zero, None)


RUNTIME = {
    "QLinearAdd": "Add",
    "QLinearAveragePool": "AveragePool",
    "QLinearConcat": "Concat",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearMul": "Mul",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
"""Operators of ONNX Runtime on quantised tensors, and those of ONNX that they are."""


@converts(*(f"com.microsoft.{name}" for name in RUNTIME))
def of_runtime(builder: Builder, node: OnnxNode) -> Value:
    """An operator of dequantised tensors, quantised."""
    node.refuse("channels_last", 0)
    operator = RUNTIME[node.operator]
    first = 2 if operator == "Concat" else 0
    count = (len(node.inputs) - 2) // 3
    tensors = [_tensor(builder, node, first + 3 * n) for n in range(count)]
    scale, zero = (0, 1) if first else (3 * count, 3 * count + 1)
    found = _plain(builder, node, operator, tensors)
    return quantize(builder, found, node.input(scale), _zero(builder, node, zero), None)


@converts("com.microsoft.QGemm")
def qgemm(builder: Builder, node: OnnxNode) -> Value:
    """`Gemm` of dequantised matrices, quantised if it has a scale for that; the bias counts
    products of scales.
    """
    a, b = (
        _tensor(builder, node, 0),
        _tensor(builder, node, 3, 0 if node.attribute("transB", 0) else 1),
    )
    tensors = [a, b]
    bias = node.optional(6)
    if bias is not None:
        unit = builder.emit("mul", node.input(1), node.input(4))
        unit = builder.emit("mul", unit, builder.like(node.attribute("alpha", 1.0), unit))
        tensors.append(builder.emit("mul", cast_to(builder, bias, unit.dtype), unit))
    found = _plain(builder, node, "Gemm", tensors)
    if node.optional(7) is None:
        return found
    return quantize(builder, found, node.input(7), _zero(builder, node, 8), None)


def _tensor(builder: Builder, node: OnnxNode, at: int, axis: int | None = None) -> Value:
    """Return an input that is followed by its scale and its zero point, dequantised."""
    x, scale = node.input(at), positive(node.input(at + 1))
    return dequantize(builder, x, scale, node.optional(at + 2), axis)


def _zero(builder: Builder, node: OnnxNode, at: int) -> Value:
    """Return the zero point of a result; 0 of the type of the first quantised input, without."""
    found = node.optional(at)
    first = next(v for v in node.inputs if v is not None and v.dtype.kind in "iu")
    return builder.known(np.zeros((), first.dtype)) if found is None else found


def _plain(builder: Builder, node: OnnxNode, operator: str, tensors: Sequence[Value]) -> Value:
    """Emit an operator of ONNX with the attributes of the node."""
    plain = OnnxNode(operator, tuple(tensors), node.outputs, node.attributes, node.opset)
    found = CONVERTERS[operator](builder, plain)
    assert isinstance(found, Value)
    return found
