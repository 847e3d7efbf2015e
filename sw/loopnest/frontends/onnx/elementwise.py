"""Operators that compute element by element."""

from functools import reduce

import numpy as np

from .builder import Builder, Value
from .node import OnnxNode, converts

SAME = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "isnan",
    "Log": "log",
    "Not": "not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
    "Where": "where",
}
"""Operators that are the same ones in graphs."""

RELATIONS = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}

LOGICAL = {"And": "and", "Or": "or", "Xor": "xor"}


@converts(*SAME)
def same(builder: Builder, node: OnnxNode) -> Value:
    """Operators without attributes."""
    return builder.emit(SAME[node.operator], *node.values())


@converts(*RELATIONS)
def relation(builder: Builder, node: OnnxNode) -> Value:
    """Comparisons."""
    return builder.emit("compare", *node.values(), relation=RELATIONS[node.operator])


@converts(*LOGICAL)
def logical(builder: Builder, node: OnnxNode) -> Value:
    """Operators on truth values."""
    return builder.emit("logical", *node.values(), operation=LOGICAL[node.operator])


@converts("Add")
def add(builder: Builder, node: OnnxNode) -> Value:
    """``a + b``."""
    return builder.emit("add", *node.values())


@converts("Sub")
def sub(builder: Builder, node: OnnxNode) -> Value:
    """``a - b``."""
    return builder.emit("sub", *node.values())


@converts("Mul")
def mul(builder: Builder, node: OnnxNode) -> Value:
    """``a * b``."""
    return builder.emit("mul", *node.values())


@converts("Div")
def div(builder: Builder, node: OnnxNode) -> Value:
    """``a / b``: a product with the reciprocal, where that is known and finite."""
    a, b = node.values()
    if b.known and not a.known and b.dtype.kind == "f":
        with np.errstate(all="ignore"):
            inverse = 1 / b.array
        if np.isfinite(inverse).all() and np.all(inverse != 0):
            return builder.emit("mul", a, builder.known(inverse.astype(b.dtype)))
    return builder.emit("div", a, b)


@converts("Neg")
def neg(builder: Builder, node: OnnxNode) -> Value:
    """``-x``."""
    x = node.input()
    return builder.emit("mul", x, builder.like(-1, x))


@converts("Pow")
def pow_(builder: Builder, node: OnnxNode) -> Value:
    """``a ** b``, of a's type; a square is a product."""
    a, b = node.values()
    if b.scalar == 2 and b.ndim <= a.ndim:
        return builder.emit("mul", a, a)
    if b.scalar == 0.5 and b.ndim <= a.ndim:
        return builder.emit("sqrt", a)
    if b.scalar == -0.5 and b.ndim <= a.ndim:
        return builder.emit("reciprocal", builder.emit("sqrt", a))
    return cast_to(builder, builder.emit("pow", a, b), a.dtype)


@converts("Mod")
def mod(builder: Builder, node: OnnxNode) -> Value:
    """The remainder, with b's sign, or with a's (``fmod = 1``)."""
    return builder.emit("mod", *node.values(), truncated=bool(node.attribute("fmod", 0)))


@converts("Sum")
def sum_(builder: Builder, node: OnnxNode) -> Value:
    """The sum of tensors."""
    return reduce(lambda a, b: builder.emit("add", a, b), node.values())


@converts("Mean")
def mean(builder: Builder, node: OnnxNode) -> Value:
    """The mean of tensors."""
    total = sum_(builder, node)
    return builder.emit("mul", total, builder.like(1 / len(node.inputs), total))


@converts("Max")
def max_(builder: Builder, node: OnnxNode) -> Value:
    """The maximum of tensors; with a number, a clamp."""
    return reduce(lambda a, b: _bounded(builder, a, b, "low"), node.values())


@converts("Min")
def min_(builder: Builder, node: OnnxNode) -> Value:
    """The minimum of tensors; with a number, a clamp."""
    return reduce(lambda a, b: _bounded(builder, a, b, "high"), node.values())


def _bounded(builder: Builder, a: Value, b: Value, side: str) -> Value:
    for x, bound in ((a, b), (b, a)):
        if bound.scalar is not None and bound.ndim <= x.ndim and x.dtype.kind == "f":
            return clamp(builder, x, **{side: bound.scalar})
    return builder.emit("maximum" if side == "low" else "minimum", a, b)


def clamp(builder: Builder, x: Value, low: float | None = None, high: float | None = None) -> Value:
    """Emit a clamp, or what it is without one of its bounds."""
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    low = None if low is None or low <= float(limits.min) else low
    high = None if high is None or high >= float(limits.max) else high
    if low is None and high is None:
        return x
    if low == 0 and high is None:
        return builder.emit("relu", x)
    return builder.emit("clamp", x, low=low, high=high)


@converts("Relu")
def relu(builder: Builder, node: OnnxNode) -> Value:
    """``max(x, 0)``."""
    return builder.emit("relu", node.input())


@converts("Clip")
def clip(builder: Builder, node: OnnxNode) -> Value:
    """A clamp; the bounds are attributes, or inputs from opset 11 on."""
    x = node.input()
    bounds = []
    for at, name in ((1, "min"), (2, "max")):
        given = node.optional(at)
        if given is None:
            bounds.append(node.attribute(name, None))
        elif given.known:
            bounds.append(given.array.item())
        else:
            x = builder.emit("maximum" if name == "min" else "minimum", x, given)
            bounds.append(None)
    if None not in bounds and bounds[0] > bounds[1]:
        bounds[0] = bounds[1]
    return clamp(builder, x, *bounds)


@converts("HardSigmoid")
def hardsigmoid(builder: Builder, node: OnnxNode) -> Value:
    """``clamp(alpha * x + beta, 0, 1)``."""
    slope, offset = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return builder.emit("hardsigmoid", node.input(), slope=slope, offset=offset)


@converts("HardSwish")
def hardswish(builder: Builder, node: OnnxNode) -> Value:
    """``x * clamp(x / 6 + 1/2, 0, 1)``."""
    return builder.emit("hardswish", node.input())


@converts("Gelu")
def gelu(builder: Builder, node: OnnxNode) -> Value:
    """``x * Phi(x)``, exact or by tanh."""
    node.refuse("approximate", "none", "tanh")
    approximate = node.attribute("approximate", "none") == "tanh"
    return builder.emit("gelu", node.input(), approximate=approximate)


@converts("LeakyRelu")
def leaky_relu(builder: Builder, node: OnnxNode) -> Value:
    """``x`` where that is positive, otherwise ``alpha * x``."""
    return builder.emit("leaky_relu", node.input(), slope=node.attribute("alpha", 0.01))


@converts("PRelu")
def prelu(builder: Builder, node: OnnxNode) -> Value:
    """``x`` where that is positive, otherwise ``slope * x``."""
    x, slope = node.values()
    positive = builder.emit("relu", x)
    return builder.emit("add", positive, builder.emit("mul", slope, clamp(builder, x, high=0.0)))


@converts("Elu")
def elu(builder: Builder, node: OnnxNode) -> Value:
    """``x`` where that is positive, otherwise ``alpha * (exp(x) - 1)``."""
    return builder.emit("elu", node.input(), alpha=node.attribute("alpha", 1.0))


@converts("Selu")
def selu(builder: Builder, node: OnnxNode) -> Value:
    """A scaled ELU."""
    x = node.input()
    found = builder.emit("elu", x, alpha=node.attribute("alpha", 1.6732632))
    return builder.emit("mul", found, builder.like(node.attribute("gamma", 1.050701), x))


@converts("Softplus")
def softplus(builder: Builder, node: OnnxNode) -> Value:
    """``log(1 + exp(x))``, which does not overflow: ``relu(x) + log(1 + exp(-|x|))``."""
    x = node.input()
    size = builder.emit("mul", builder.emit("abs", x), builder.like(-1, x))
    grown = builder.emit("add", builder.emit("exp", size), builder.like(1, x))
    return builder.emit("add", builder.emit("relu", x), builder.emit("log", grown))


@converts("Cast")
def cast(builder: Builder, node: OnnxNode) -> Value:
    """Another type."""
    return cast_to(builder, node.input(), onnx_dtype(node.attribute("to", 1)))


@converts("CastLike")
def cast_like(builder: Builder, node: OnnxNode) -> Value:
    """The second tensor's type."""
    return cast_to(builder, node.input(), node.input(1).dtype)


def cast_to(builder: Builder, x: Value, dtype: np.dtype) -> Value:
    """Emit a cast, if the type is another."""
    if x.name in builder.integers and dtype.kind == "f":
        x = builder.integers[x.name]
    return x if x.dtype == dtype else builder.emit("cast", x, dtype=np.dtype(dtype).name)


def onnx_dtype(number: int) -> np.dtype:
    """Return the type of NumPy for one of ONNX.

    Raises
    ------
    ValueError
        If it is not of numbers or truth values of whole bytes.
    """
    from onnx import TensorProto, helper

    name = TensorProto.DataType.Name(number)
    if name in ("UNDEFINED", "STRING") or name.startswith(("FLOAT4", "FLOAT8", "COMPLEX")):
        raise ValueError(f"type {name}: expected one of numbers")
    return np.dtype(helper.tensor_dtype_to_np_dtype(number))


@converts("Identity", "Dropout")
def identity(builder: Builder, node: OnnxNode) -> Value:
    """The input itself: at inference, dropout changes nothing."""
    node.only_first_output()
    training = node.optional(2) if node.operator == "Dropout" else None
    if training is not None and training.scalar:
        raise ValueError("training_mode is true: expected a model for inference")
    return node.input()
