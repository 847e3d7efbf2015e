"""Functions of elements that the host computes."""

import numpy as np
from scipy.special import erf as scipy_erf
from scipy.special import expit

from .table import Array, host, number_as, of_numpy

of_numpy(
    "abs",
    "ceil",
    "cos",
    "exp",
    "floor",
    "isnan",
    "log",
    "maximum",
    "minimum",
    "sign",
    "sin",
    "sqrt",
    "tanh",
    "where",
)


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
def erf(x: Array) -> Array:
    """The error function."""
    return scipy_erf(x).astype(x.dtype)


@host
def reciprocal(x: Array) -> Array:
    """``1 / x``."""
    return 1 / x


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
def compare(a: Array, b: Array, *, relation: str) -> Array:
    """Compare: ``relation`` is ``equal``, ``not_equal``, ``less``, ``greater_equal``, ..."""
    return getattr(np, relation)(a, b)


@host
def logical(a: Array, b: Array, *, operation: str) -> Array:
    """``and``, ``or`` or ``xor`` of truth values."""
    return getattr(np, f"logical_{operation}")(a, b)


@host
def cast(x: Array, *, dtype: str) -> Array:
    """``x.astype(dtype)``."""
    return x.astype(dtype)


@host
def round_(x: Array) -> Array:
    """Round to nearest even."""
    return np.rint(x)


@host
def not_(x: Array) -> Array:
    """`numpy.logical_not`."""
    return np.logical_not(x)
