"""Tensors of a quantised model: integers that stand for a scale each, as the file gives it.

Zero points are subtracted, so that 0 stays 0: a uint8 with the zero point 100 is an integer from
-100 to 155.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..operators.quantized import along
from .graph import Graph, Node, dense
from .stages import MOVED

NARROW_LOW, NARROW_HIGH = -128, 127
"""What an int8 chip's narrow values hold."""


@dataclass(frozen=True)
class Steps:
    """What a tensor's integers stand for, and their bounds."""

    scale: float
    low: int
    high: int

    @property
    def narrow(self) -> bool:
        """Whether int8 holds them."""
        return self.low >= NARROW_LOW and self.high <= NARROW_HIGH

    @property
    def largest(self) -> float:
        """The largest magnitude that they can stand for."""
        return self.scale * max(-self.low, self.high)


class Quantized:
    """A constant of a quantised model: ``integers * scale``, float32.

    Parameters
    ----------
    integers : array of int
        Less their zero point.
    scale : float, or array of shape (n,)
        For all, or for each place of an axis of that size.
    axis : int or None
    """

    def __init__(self, integers: NDArray[Any], scale: Any, axis: int | None) -> None:
        self.integers, self.scale, self.axis = integers, scale, axis
        self.shape, self.ndim, self.size = integers.shape, integers.ndim, integers.size
        self.dtype = np.dtype(np.float32)

    def toarray(self) -> NDArray[Any]:
        """Return the numbers."""
        scale = np.asarray(self.scale, np.float32)
        if self.axis is not None:
            scale = scale.reshape([-1 if n == self.axis else 1 for n in range(self.ndim)])
        return self.integers.astype(np.float32) * scale

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.toarray() if dtype is None else self.toarray().astype(dtype)

    def transpose(self, axes: Sequence[int]) -> "Quantized":
        """Return it with its axes in another order."""
        axis = None if self.axis is None else list(axes).index(self.axis)
        return Quantized(self.integers.transpose(axes), self.scale, axis)

    def times(self, factor: NDArray[Any]) -> "Quantized | None":
        """Return a multiple of it, by a number or by one for each place of an axis; None if it has
        scales along another one.
        """
        if factor.ndim > self.ndim or factor.dtype.kind != "f":
            return None
        along = [n - factor.ndim + self.ndim for n, size in enumerate(factor.shape) if size != 1]
        axis = along[0] if along else self.axis
        if len(along) > 1 or self.axis not in (None, axis):
            return None
        if along and factor.size != self.shape[along[0]]:
            return None
        factor = factor.reshape(-1) if along else factor.reshape(())
        return Quantized(self.integers, np.float32(self.scale) * factor.astype(np.float32), axis)

    def less(self, zero: NDArray[Any]) -> "Quantized | None":
        """Return it less a zero point; None if that is no integer, or several."""
        if self.axis is not None or self.scale != 1 or zero.size != 1 or zero.ndim > self.ndim:
            return None
        number = float(zero.reshape(()))
        if not number.is_integer() or abs(number) > 255:
            return None
        return Quantized(self.integers.astype(np.int32) - int(number), self.scale, None)


def fold_quantized(
    operator: str, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> Quantized | None:
    """Return what an operator makes of constants where it is one of a quantised model, otherwise
    None. A quantised model may spell `dequantize` out: by a cast, a difference and a product.
    """
    if not inputs:
        return None
    x, *others = inputs
    match operator:
        case "dequantize":
            scale, zero = map(dense, others)
            return _dequantized(dense(x), scale, zero, attributes.get("axis"))
        case "cast" if attributes["dtype"] == "float32" and getattr(x, "ndim", 0) > 1:
            if isinstance(x, np.ndarray) and x.dtype in (np.int8, np.uint8):
                return Quantized(x, np.float32(1), None)
            return x if isinstance(x, Quantized) else None
        case "mul":
            for one, other in (inputs, inputs[::-1]):
                if isinstance(one, Quantized):
                    return one.times(dense(other))
        case "sub" if isinstance(x, Quantized):
            return x.less(dense(others[0]))
        case "transpose" if isinstance(x, Quantized):
            return x.transpose(attributes["axes"])
        case "reshape" if isinstance(x, Quantized) and x.axis is None:
            return Quantized(x.integers.reshape(attributes["shape"]), x.scale, None)
    return None


def _dequantized(
    x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int | None
) -> Quantized | None:
    """Return integers with a scale and a zero point, or several of them along an axis; None for
    those of blocks, and of other types than float32.
    """
    if scale.dtype != np.float32 or (scale.size > 1 and scale.ndim != 1):
        return None
    centred = x.astype(np.int64) - along(zero, x, axis).astype(np.int64)
    if centred.size and max(-centred.min(), centred.max()) >= 1 << 31:
        return None
    narrow = centred.size == 0 or (centred.min() >= NARROW_LOW and centred.max() <= NARROW_HIGH)
    integers = centred.astype(np.int8 if narrow else np.int32)
    if scale.size == 1:
        return Quantized(integers, scale.reshape(())[()], None)
    assert axis is not None
    return Quantized(integers, scale, axis % x.ndim)


def keeps_steps(node: Node) -> bool:
    """Return whether the result of an operator of one tensor has its steps: 0 is one of them."""
    return node.operator in MOVED or (
        node.operator == "pad" and node.attributes.get("value", 0) == 0
    )


def find_steps(graph: Graph) -> Mapping[str, Steps]:
    """Return the steps of those tensors of a graph that have them, by name."""
    found: dict[str, Steps] = {}
    for node in graph.nodes:
        if node.operator == "fake_quantize":
            found[node.result] = Steps(**node.attributes)
        elif node.operator == "centred":
            found[node.result] = Steps(1.0, -255, 255)
        elif keeps_steps(node) and node.inputs[0] in found:
            found[node.result] = found[node.inputs[0]]
    return found
