"""Quantised tensors: what is known is folded, what is computed rounds as the file says."""

import numpy as np

from .builder import Builder, Value
from .elementwise import cast_to, onnx_dtype
from .node import OnnxNode, converts
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


@converts("QuantizeLinear")
def quantize_linear(builder: Builder, node: OnnxNode) -> Value:
    """``round(x / scale) + zero``, in the zero point's type; uint8 without one."""
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
    if zero is None:
        asked = node.attribute("output_dtype", 0)
        dtype = onnx_dtype(asked) if asked else np.dtype(np.uint8)
        zero = builder.known(np.zeros(scale.shape, dtype))
    if zero.dtype.kind == "f" or zero.dtype.name.startswith("float"):
        raise ValueError(f"zero point of type {zero.dtype}: expected integers")
    return quantize(builder, x, scale, zero, _axis(node, x, scale))


@converts("DequantizeLinear")
def dequantize_linear(builder: Builder, node: OnnxNode) -> Value:
    """``(x - zero) * scale``."""
    x, scale, zero = node.input(0), node.input(1), node.optional(2)
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
