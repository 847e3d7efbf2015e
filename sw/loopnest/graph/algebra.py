"""Functions of one tensor that are computed element by element, in a normal form.

A form is a sum of products: a mapping of each product's factors to its coefficient. A factor is
the tensor itself, `X`, or a function of a form, with a power. Operators in another order, or with
their constants elsewhere, have the same form, as ``x * clip(x + 3, 0, 6) / 6`` and
``x * clip(x / 6 + 0.5, 0, 1)``.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from .graph import Node, dense

Factor = Any
"""`X`, or (function, form's key, numbers...)."""

Product = tuple[tuple[Factor, int], ...]

Form = dict[Product, float]

X: Factor = "x"

MAX_PRODUCTS = 8

MAX_DEPTH = 12


def form(
    name: str, x: str, nodes: Mapping[str, Node], constants: Mapping[str, Any], digits: int = 5
) -> Form | None:
    """Return a tensor as a form of ``x``; None, if it has none.

    Parameters
    ----------
    nodes : mapping of str to Node
        By their results.
    digits : int
        Significant digits of numbers inside functions.
    """
    return _Forms(x, nodes, constants, digits).of(name, 0)


def key(form: Form, digits: int) -> frozenset[tuple[Product, float]]:
    """Return what equal forms have in common."""
    return frozenset((product, rounded(c, digits)) for product, c in form.items() if c != 0)


def rounded(number: float, digits: int) -> float:
    """Return a number with so many significant digits."""
    return float(f"{number:.{digits}g}")


class _Forms:
    def __init__(
        self, x: str, nodes: Mapping[str, Node], constants: Mapping[str, Any], digits: int
    ) -> None:
        self.x, self.nodes, self.constants, self.digits = x, nodes, constants, digits
        self.found: dict[str, Form | None] = {}

    def of(self, name: str, depth: int) -> Form | None:
        if name not in self.found:
            self.found[name] = self._made(name, depth)
        return self.found[name]

    def _made(self, name: str, depth: int) -> Form | None:
        if name == self.x:
            return {((X, 1),): 1.0}
        if name in self.constants:
            number = scalar(self.constants[name])
            return None if number is None else {(): number}
        node = self.nodes.get(name)
        if node is None or depth > MAX_DEPTH or node.operator not in FORMS:
            return None
        found = []
        for one in node.inputs:
            inner = self.of(one, depth + 1)
            if inner is None:
                return None
            found.append(inner)
        made = FORMS[node.operator](self, node, *found)
        return None if made is None or len(made) > MAX_PRODUCTS else made

    def function(self, name: str, inner: Form, *numbers: float) -> Form:
        limits = tuple(rounded(n, self.digits) for n in numbers)
        return {(((name, key(inner, self.digits), *limits), 1),): 1.0}

    def clamp(self, inner: Form, low: float, high: float) -> Form:
        """Return a clamp of a form whose coefficient of x is 1, times what that was."""
        factor = inner.get(((X, 1),), 0.0) or 1.0
        low, high = sorted((low / factor, high / factor))
        inside = times(inner, {(): 1 / factor})
        return times(self.function("clamp", inside, low, high), {(): factor})

    def inverse(self, inner: Form) -> Form:
        """Return ``1 / form``; of ``1 + exp(-y)`` it is the sigmoid of y."""
        if set(inner) == {()}:
            return {(): 1 / inner[()]} if inner[()] else self.function("inverse", inner)
        exponentials = [p for p in inner if len(p) == 1 and p[0][0][0] == "exp"]
        if len(inner) == 2 and inner.get(()) == 1 and exponentials:
            ((function, power),) = exponentials[0]
            if power == 1 and inner[exponentials[0]] == 1:
                return self.function("sigmoid", times(dict(function[1]), {(): -1.0}))
        return self.function("inverse", inner)


def scalar(constant: Any) -> float | None:
    """Return the number of a constant of one element and at most one axis, otherwise None."""
    if len(constant.shape) > 1 or (constant.shape and constant.shape[0] != 1):
        return None
    number = dense(constant).reshape(())
    return None if number.dtype.kind in "bc" else float(number)


def plus(a: Form, b: Form) -> Form:
    """Return the sum of forms."""
    found = dict(a)
    for product, coefficient in b.items():
        found[product] = found.get(product, 0.0) + coefficient
    return {product: coefficient for product, coefficient in found.items() if coefficient != 0}


def times(a: Form, b: Form) -> Form:
    """Return the product of forms."""
    found: Form = {}
    for one, c in a.items():
        for other, d in b.items():
            powers: dict[Factor, int] = dict(one)
            for factor, power in other:
                powers[factor] = powers.get(factor, 0) + power
            product = tuple(sorted(powers.items(), key=repr))
            found[product] = found.get(product, 0.0) + c * d
    return found


def _power(forms: _Forms, node: Node, base: Form, exponent: Form) -> Form | None:
    n = exponent.get(()) if set(exponent) == {()} else None
    if n not in (2, 3):
        return None
    found = times(base, base)
    return times(found, base) if n == 3 else found


def _hardsigmoid(forms: _Forms, node: Node, x: Form) -> Form:
    slope, offset = node.attributes.get("slope", 1 / 6), node.attributes.get("offset", 0.5)
    return forms.clamp(plus(times(x, {(): slope}), {(): offset}), 0, 1)


def _clamp(forms: _Forms, node: Node, x: Form) -> Form:
    low, high = node.attributes.get("low"), node.attributes.get("high")
    return forms.clamp(x, -inf if low is None else low, inf if high is None else high)


FORMS: dict[str, Callable[..., Form | None]] = {
    "add": lambda forms, node, a, b: plus(a, b),
    "sub": lambda forms, node, a, b: plus(a, times(b, {(): -1.0})),
    "mul": lambda forms, node, a, b: times(a, b),
    "div": lambda forms, node, a, b: times(a, forms.inverse(b)),
    "reciprocal": lambda forms, node, a: forms.inverse(a),
    "pow": _power,
    "relu": lambda forms, node, a: forms.clamp(a, 0, inf),
    "clamp": _clamp,
    "hardsigmoid": _hardsigmoid,
    "erf": lambda forms, node, a: forms.function("erf", a),
    "tanh": lambda forms, node, a: forms.function("tanh", a),
    "exp": lambda forms, node, a: forms.function("exp", a),
    "sigmoid": lambda forms, node, a: forms.function("sigmoid", a),
}
"""Operators that have forms, with a function of the node and its inputs' forms."""
