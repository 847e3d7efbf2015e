"""Rewrites a graph to fewer kinds of operators, and without what is known before a run."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .graph import Graph, Node, dense


def simplified(graph: Graph) -> Graph:
    """Return the graph with constants folded, divisions and subtractions of constants as products
    and sums, hardswish as its factors, and without nodes that no output needs.
    """
    constants = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.inputs and all(name in constants for name in node.inputs):
            constants[node.result] = node.apply(*(dense(constants[name]) for name in node.inputs))
            continue
        nodes += _spelled(node, constants)
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.result in needed:
            kept.append(node)
            needed.update(node.inputs)
    used = {name: array for name, array in constants.items() if name in needed}
    return Graph(graph.inputs, used, tuple(reversed(kept)), graph.outputs)


def _spelled(node: Node, constants: dict[str, Any]) -> Iterator[Node]:
    """Yield a node in terms of fewer operators; constants that these need are added."""

    def constant(kind: str, array: Any) -> str:
        name = f"{node.result}.{kind}"
        constants[name] = array
        return name

    known = [constants.get(name) for name in node.inputs]
    match node.operator:
        case "hardswish":
            (x,) = node.inputs
            part = f"{node.result}.hardsigmoid"
            yield replace(node, result=part, operator="hardsigmoid")
            yield replace(node, operator="mul", inputs=(x, part))
        case "div" if known[1] is not None and _real(known[1]):
            factor = constant("factor", 1 / dense(known[1]))
            yield replace(node, operator="mul", inputs=(node.inputs[0], factor))
        case "sub" if known[1] is not None and _real(known[1]):
            term = constant("term", -dense(known[1]))
            yield replace(node, operator="add", inputs=(node.inputs[0], term))
        case "sub" if known[0] is not None and _real(known[0]):
            part = f"{node.result}.negative"
            minus = constant("factor", np.asarray(-1, dense(known[0]).dtype))
            yield replace(node, result=part, operator="mul", inputs=(node.inputs[1], minus))
            yield replace(node, operator="add", inputs=(part, node.inputs[0]))
        case _:
            yield node


def _real(array: Any) -> bool:
    return array.dtype.kind == "f"


def example_values(graph: Graph) -> Mapping[str, "Seen"]:
    """Return what the examples of the inputs make of every tensor that is not constant."""
    found = {name: Seen(dense(array)) for name, array in graph.inputs.items()}
    for node, array in graph.walk():
        found[node.result] = Seen(array)
    return found


class Seen:
    """What a tensor is for the examples.

    Attributes
    ----------
    shape : tuple of int
    real : bool
        Whether it has a floating-point type.
    zeros : float
        The share of zeros.
    low, high : float
        The least and the largest value.
    pattern : array of bool, packed
        Where it is not 0.
    """

    def __init__(self, array: Any) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.real = array.dtype.kind == "f"
        self.zeros = 1 - np.count_nonzero(array) / max(1, array.size)
        comparable = array.size > 0 and array.dtype.kind in "fiub"
        self.low, self.high = (float(array.min()), float(array.max())) if comparable else (0.0, 0.0)
        self._pattern = np.packbits(array != 0)

    @property
    def pattern(self) -> Any:
        """Where it is not 0, in its shape."""
        size = int(np.prod(self.shape))
        return np.unpackbits(self._pattern, count=size).astype(bool).reshape(self.shape)
