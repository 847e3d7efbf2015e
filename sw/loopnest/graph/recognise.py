"""Finds operators that a model spells out in simpler ones: activations and normalisations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations
from math import pi, sqrt
from typing import Any

import numpy as np

from .algebra import FORMS, Form, X, form, key, scalar
from .graph import Graph, Node

MAX_AWAY = 6
"""Operators between a function's argument and its result."""


def recognised(graph: Graph) -> Graph:
    """Return the graph with whole operators where it spells them out.

    These are ``hardswish``, ``hardsigmoid``, ``gelu`` (by erf and by tanh) and ``silu``, in any
    order of their parts, and ``layer_norm`` and ``rms_norm`` with their weights and biases.
    Results may differ in the last digits.
    """
    search = _Search(graph)
    nodes = []
    for node in graph.nodes:
        search.nodes[node.result] = node
        found = search.activation(node) or search.normalisation(node) or search.absorbed(node)
        found = found or node
        search.nodes[found.result] = found
        nodes.append(found)
    return Graph(graph.inputs, graph.constants, tuple(nodes), graph.outputs).needed()


@cache
def _activations(digits: int) -> Mapping[Any, tuple[str, Mapping[str, Any]]]:
    """Return the activations by the keys of their forms."""
    names = ("three", "six", "half", "one", "root", "cube", "inner")
    numbers = (3.0, 1 / 6, 0.5, 1.0, sqrt(0.5), 0.044715, sqrt(2 / pi))
    constants = {name: np.array(n) for name, n in zip(names, numbers, strict=True)}
    spelled: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
        "hardswish": (("hardsigmoid", ("x",)), ("mul", ("x", "0"))),
        "silu": (("sigmoid", ("x",)), ("mul", ("x", "0"))),
        "gelu": (
            ("mul", ("x", "root")),
            ("erf", ("0",)),
            ("add", ("1", "one")),
            ("mul", ("x", "2")),
            ("mul", ("3", "half")),
        ),
        "gelu by tanh": (
            ("mul", ("x", "x")),
            ("mul", ("0", "x")),
            ("mul", ("1", "cube")),
            ("add", ("2", "x")),
            ("mul", ("3", "inner")),
            ("tanh", ("4",)),
            ("add", ("5", "one")),
            ("mul", ("6", "x")),
            ("mul", ("7", "half")),
        ),
    }
    found: dict[Any, tuple[str, Mapping[str, Any]]] = {}
    for name, steps in spelled.items():
        nodes = {
            str(n): Node(str(n), operator, inputs) for n, (operator, inputs) in enumerate(steps)
        }
        made = form(str(len(steps) - 1), "x", nodes, constants, digits)
        assert made is not None
        operator = name.partition(" ")[0]
        attributes = {"approximate": name != operator} if operator == "gelu" else {}
        found[key(made, digits)] = (operator, attributes)
    return found


class _Search:
    """The nodes before the one that is looked at, with what was found so far."""

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self.nodes: dict[str, Node] = {}
        self.uses = graph.uses()
        self.outputs = set(graph.outputs)
        # numbers of 16 bits have three digits
        short = any(c.dtype.itemsize == 2 for c in graph.constants.values())
        self.digits = 3 if short else 5

    def activation(self, node: Node) -> Node | None:
        """Return the activation that a node ends."""
        if node.operator not in ("mul", "add", "sub", "div", "clamp", "reciprocal"):
            return None
        slope: Node | None = None
        for x in self._before(node):
            made = form(node.result, x, self.nodes, self.constants, self.digits)
            if made is None:
                continue
            operator, attributes = _activations(self.digits).get(key(made, self.digits), ("", {}))
            if operator:
                return replace(node, operator=operator, inputs=(x,), attributes=attributes)
            operator, attributes = _hardsigmoid(made, self.digits)
            if operator:  # of several arguments, the one the furthest away has the offset too
                slope = replace(node, operator=operator, inputs=(x,), attributes=attributes)
        return slope

    def _before(self, node: Node) -> Iterator[str]:
        """Yield the tensors that a node may be a function of, the nearest first."""
        level, seen = [node], set[str]()
        for _ in range(MAX_AWAY):
            names = dict.fromkeys(
                name for one in level for name in one.inputs if name not in self.constants
            )
            fresh = [name for name in names if name not in seen]
            yield from fresh
            seen.update(fresh)
            level = [
                self.nodes[name]
                for name in fresh
                if name in self.nodes and self.nodes[name].operator in FORMS
            ]

    def normalisation(self, node: Node) -> Node | None:
        """Return the normalisation of ``x / sqrt(mean(x * x) + epsilon)``; where x is less its
        mean, it is that of a layer.
        """
        for x, norm in self._quotients(node):
            total = self._input(norm, "sqrt")
            for mean, epsilon in self._pairs(total, "add"):
                small = self._number(epsilon)
                over = self.nodes.get(mean)
                if small is None or over is None or over.operator != "mean":
                    continue
                axes = tuple(over.attributes["axes"])
                squares = self._pairs(over.inputs[0], "mul")
                if not over.attributes.get("keepdims") or not any(
                    self._same(x, a) and self._same(x, b) for a, b in squares
                ):
                    continue
                attributes = {"axes": axes, "epsilon": small}
                centred = self._centred(x, axes)
                if centred is not None:
                    return replace(
                        node, operator="layer_norm", inputs=(centred,), attributes=attributes
                    )
                return replace(node, operator="rms_norm", inputs=(x,), attributes=attributes)
        return None

    def absorbed(self, node: Node) -> Node | None:
        """Return a normalisation with the weights or the bias that a node applies to it."""
        if node.operator not in ("mul", "add"):
            return None
        for name, other in permutations(node.inputs):
            norm, constant = self.nodes.get(name), self.constants.get(other)
            if norm is None or constant is None or name in self.outputs:
                continue
            if len(self.uses[name]) > 1 or norm.operator not in ("layer_norm", "rms_norm"):
                continue
            place = 1 if node.operator == "mul" else 2
            axes = norm.attributes["axes"]
            fits = constant.ndim == len(axes) and max(constant.shape) > 1
            if fits and len(norm.inputs) == place and (place == 1 or norm.operator == "layer_norm"):
                return replace(norm, result=node.result, inputs=(*norm.inputs, other))
        return None

    def _quotients(self, node: Node) -> Iterator[tuple[str, str]]:
        """Yield the numerator and the denominator, where a node is a quotient."""
        if node.operator == "div":
            yield node.inputs[0], node.inputs[1]
        if node.operator == "mul":
            for x, other in permutations(node.inputs):
                inverse = self._input(other, "reciprocal")
                if inverse:
                    yield x, inverse

    def _input(self, name: str, operator: str) -> str:
        node = self.nodes.get(name)
        return node.inputs[0] if node is not None and node.operator == operator else ""

    def _pairs(self, name: str, operator: str) -> Sequence[tuple[str, ...]]:
        node = self.nodes.get(name)
        if node is None or node.operator != operator:
            return ()
        return tuple(permutations(node.inputs))

    def _number(self, name: str) -> float | None:
        constant = self.constants.get(name)
        return None if constant is None else scalar(constant)

    def _centred(self, name: str, axes: tuple[int, ...]) -> str | None:
        """Return what a tensor is less its own mean, if it is that."""
        node = self.nodes.get(name)
        if node is None or node.operator != "sub":
            return None
        x, mean = node.inputs
        over = self.nodes.get(mean)
        if over is None or over.operator != "mean" or over.inputs != (x,):
            return None
        same = tuple(over.attributes["axes"]) == axes and over.attributes.get("keepdims")
        return x if same else None

    def _same(self, a: str, b: str) -> bool:
        """Return whether two tensors are the same, or computed in the same way."""
        if a == b:
            return True
        one, other = self.nodes.get(a), self.nodes.get(b)
        return (
            one is not None
            and other is not None
            and one.operator == other.operator
            and dict(one.attributes) == dict(other.attributes)
            and len(one.inputs) == len(other.inputs)
            and all(map(self._same, one.inputs, other.inputs))
        )


def _hardsigmoid(made: Form, digits: int) -> tuple[str, Mapping[str, Any]]:
    """Return ``hardsigmoid`` and its attributes, if a form is one: a clamp from 0 to 1 of another
    slope than 1.
    """
    if len(made) != 1:
        return "", {}
    ((product, slope),) = made.items()
    if len(product) != 1 or product[0][1] != 1 or product[0][0][0] != "clamp" or slope <= 0:
        return "", {}
    _, inside, low, high = product[0][0]
    terms = dict(inside)
    if set(terms) - {(), ((X, 1),)} or low != 0 or round(high * slope, digits - 1) != 1:
        return "", {}
    if terms.get(((X, 1),)) != 1 or slope == 1:
        return "", {}
    return "hardsigmoid", {"slope": slope, "offset": terms.get((), 0.0) * slope}
