"""Operators that work element by element."""

from typing import Any

import numpy as np
import torch
from torch import fx

from .builder import Builder, result_type
from .table import Translation, aten
from .traced import Traced


def dtype_of(node: fx.Node) -> torch.dtype:
    """Return the type of a traced operator's result."""
    return node.meta["val"].dtype


def _as_result(b: Builder, node: fx.Node, x: Any) -> Traced:
    """Return an argument in the type of the result."""
    return b.tensor(x, dtype_of(node))


def _unary(operator: str) -> Translation:
    def translation(b: Builder, node: fx.Node, x: Traced) -> Traced:
        return b.unary(operator, _as_result(b, node, x))

    return translation


for _name in ("sigmoid", "tanh", "erf", "exp", "log", "sqrt", "reciprocal", "abs", "sin", "cos"):
    aten(f"{_name}.default")(_unary(_name))
for _name in ("floor", "ceil", "sign", "round", "relu", "hardsigmoid", "hardswish", "silu"):
    aten(f"{_name}.default")(_unary(_name))


@aten(
    "alias.default",
    "clone.default",
    "contiguous.default",
    "detach.default",
    "lift_fresh_copy.default",
)
def _same(b: Builder, node: fx.Node, x: Traced, **unused: Any) -> Any:
    return x


@aten("dropout.default", "native_dropout.default")
def _dropout(b: Builder, node: fx.Node, x: Traced, share: float, training: bool | None) -> Any:
    if training is not False and share:
        raise ValueError("dropout while training: expected a model in evaluation: model.eval()")
    return x if str(node.target) == "aten.dropout.default" else (x, None)


@aten("_to_copy.default", "to.dtype")
def _to(b: Builder, node: fx.Node, x: Traced, *unused: Any, **unused_too: Any) -> Traced:
    return _as_result(b, node, x)


@aten("neg.default")
def _neg(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.mul(x, -1)


@aten("rsqrt.default")
def _rsqrt(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.unary("reciprocal", b.unary("sqrt", _as_result(b, node, x)))


@aten("isnan.default")
def _isnan(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.emit("isnan", [x], x.shape, torch.bool)


@aten("gelu.default")
def _gelu(b: Builder, node: fx.Node, x: Traced, approximate: str = "none") -> Traced:
    return b.unary("gelu", x, approximate=approximate == "tanh")


@aten("leaky_relu.default")
def _leaky_relu(b: Builder, node: fx.Node, x: Traced, slope: float = 0.01) -> Traced:
    return b.unary("leaky_relu", x, slope=float(slope))


@aten("elu.default")
def _elu(
    b: Builder, node: fx.Node, x: Traced, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Any:
    if input_scale != 1:
        return NotImplemented
    found = b.unary("elu", x, alpha=float(alpha))
    return found if scale == 1 else b.mul(found, scale)


@aten("clamp.default", "hardtanh.default")
def _clamp(b: Builder, node: fx.Node, x: Traced, low: Any = None, high: Any = None) -> Traced:
    if str(node.target) == "aten.hardtanh.default":
        low, high = -1 if low is None else low, 1 if high is None else high
    return b.unary("clamp", _as_result(b, node, x), low=low, high=high)


@aten("relu6.default")
def _relu6(b: Builder, node: fx.Node, x: Traced) -> Traced:
    return b.unary("clamp", x, low=0, high=6)


@aten("clamp_min.default")
def _clamp_min(b: Builder, node: fx.Node, x: Traced, low: Any) -> Traced:
    return _clamp(b, node, x, low, None)


@aten("clamp_max.default")
def _clamp_max(b: Builder, node: fx.Node, x: Traced, high: Any) -> Traced:
    return _clamp(b, node, x, None, high)


@aten("clamp.Tensor")
def _clamp_tensor(
    b: Builder, node: fx.Node, x: Traced, low: Traced | None = None, high: Traced | None = None
) -> Traced:
    x = x if low is None else b.binary("maximum", x, low)
    return x if high is None else b.binary("minimum", x, high)


@aten("add.Tensor", "add.Scalar")
def _add(b: Builder, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Traced:
    return b.add(_as_result(b, node, x), _scaled(b, node, y, alpha))


@aten("sub.Tensor", "sub.Scalar")
def _sub(b: Builder, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Traced:
    return b.binary("sub", _as_result(b, node, x), _scaled(b, node, y, alpha))


@aten("rsub.Scalar", "rsub.Tensor")
def _rsub(b: Builder, node: fx.Node, x: Any, y: Any, alpha: Any = 1) -> Traced:
    return b.binary("sub", _as_result(b, node, y), _scaled(b, node, x, alpha))


def _scaled(b: Builder, node: fx.Node, x: Any, alpha: Any) -> Traced:
    x = _as_result(b, node, x)
    return x if alpha == 1 else b.mul(x, alpha)


@aten("mul.Tensor", "mul.Scalar")
def _mul(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
    return b.mul(_as_result(b, node, x), _as_result(b, node, y))


@aten("div.Tensor", "div.Scalar")
def _div(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
    x, y = _as_result(b, node, x), _as_result(b, node, y)
    if y.known and not x.known and np.all(y.value):
        return b.mul(x, b.unary("reciprocal", y))  # kernels multiply
    return b.binary("div", x, y)


@aten("fmod.Tensor", "fmod.Scalar", "remainder.Tensor", "remainder.Scalar")
def _mod(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
    return b.binary("mod", x, y, truncated="fmod" in str(node.target))


@aten("minimum.default")
def _minimum(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
    return b.binary("minimum", x, y)


@aten("maximum.default")
def _maximum(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
    return b.binary("maximum", x, y)


@aten("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _pow(b: Builder, node: fx.Node, x: Any, exponent: Any) -> Traced:
    x = _as_result(b, node, x)
    if isinstance(exponent, Traced) and exponent.known and not exponent.ndim:
        exponent = exponent.value.item()
    if exponent in (2, 3) and not isinstance(exponent, Traced):
        square = b.mul(x, x)
        return square if exponent == 2 else b.mul(square, x)
    if exponent == 1:
        return x
    if x.dtype.is_floating_point and exponent in (0.5, -0.5, -1):
        root = x if exponent == -1 else b.unary("sqrt", x)
        return root if exponent == 0.5 else b.unary("reciprocal", root)
    return b.binary("pow", x, _as_result(b, node, exponent))


def _compare(relation: str) -> Translation:
    def translation(b: Builder, node: fx.Node, x: Any, y: Any) -> Traced:
        return b.binary("compare", x, y, torch.bool, relation=relation)

    return translation


for _name, _relation in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    aten(f"{_name}.Tensor", f"{_name}.Scalar")(_compare(_relation))


def _logical(operation: str) -> Translation:
    def translation(b: Builder, node: fx.Node, x: Any, y: Any) -> Any:
        if dtype_of(node) != torch.bool:
            return NotImplemented
        return b.binary("logical", x, y, torch.bool, operation=operation)

    return translation


for _name in ("and", "or", "xor"):
    aten(f"logical_{_name}.default", f"bitwise_{_name}.Tensor", f"bitwise_{_name}.Scalar")(
        _logical(_name)
    )


@aten("logical_not.default", "bitwise_not.default")
def _not(b: Builder, node: fx.Node, x: Traced) -> Any:
    if dtype_of(node) != torch.bool:
        return NotImplemented
    return b.emit("not", [x], x.shape, torch.bool)


@aten("where.self")
def _where(b: Builder, node: fx.Node, condition: Traced, x: Traced, y: Traced) -> Traced:
    return where(b, condition, x, y)


def where(b: Builder, condition: Traced, x: Any, y: Any) -> Traced:
    """Return ``x`` where the condition holds, otherwise ``y``."""
    dtype = result_type(x, y)
    x, y = b.tensor(x, dtype), b.tensor(y, dtype)
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    return b.emit("where", [condition, x, y], shape, dtype)


@aten(
    "full.default",
    "full_like.default",
    "zeros.default",
    "zeros_like.default",
    "ones.default",
    "ones_like.default",
    "new_full.default",
    "new_zeros.default",
    "new_ones.default",
    "fill.Scalar",
    "empty.memory_format",
    "empty_like.default",
    "empty_permuted.default",
    "empty_strided.default",
    "new_empty.default",
    "new_empty_strided.default",
)
def _full(b: Builder, node: fx.Node, *arguments: Any, **unused: Any) -> Traced:
    name = str(node.target)
    # what is in an empty tensor would be in the scales of an int8 chip, and in the cost of others
    values = {"zeros": 0, "ones": 1, "empty": 0}
    value = next((v for word, v in values.items() if word in name), None)
    if value is None:
        value = arguments[2] if "new_" in name else arguments[1]
    example = node.meta["val"]
    filled = np.asarray(value, b.tensor(0, example.dtype).value.dtype)
    return b.known(np.broadcast_to(filled, tuple(example.shape)), example.dtype)
