"""Rewrites a graph to fewer kinds of operators, and without what is known before a run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .graph import Graph, Node, dense, unused


def simplified(graph: Graph) -> Graph:
    """Return the graph with constants folded, divisions and subtractions of constants as products
    and sums, hardswish as its factors, padding as that of a convolution after it, and without nodes
    that no output needs.
    """
    constants = dict(graph.constants)
    names = {*graph.inputs, *constants, *(node.result for node in graph.nodes)}
    nodes: list[Node] = []
    pads = {node.result: node for node in graph.nodes if node.operator == "pad"}
    for node in graph.nodes:
        if node.inputs and all(name in constants for name in node.inputs):
            constants[node.result] = node.apply(*(dense(constants[name]) for name in node.inputs))
            continue
        if node.operator == "conv" and node.inputs[0] in pads:
            node = _padded(node, pads[node.inputs[0]])
        nodes += _spelled(node, constants, names)
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.result in needed:
            kept.append(node)
            needed.update(node.inputs)
    used = {name: array for name, array in constants.items() if name in needed}
    return Graph(graph.inputs, used, tuple(reversed(kept)), graph.outputs)


def _spelled(node: Node, constants: dict[str, Any], names: set[str]) -> Iterator[Node]:
    """Yield a node in terms of fewer operators; constants that these need are added."""

    def fresh(kind: str) -> str:
        name = unused(f"{node.result}.{kind}", names)
        names.add(name)
        return name

    def constant(kind: str, array: Any) -> str:
        name = fresh(kind)
        constants[name] = array
        return name

    known = [constants.get(name) for name in node.inputs]
    match node.operator:
        case "hardswish":
            (x,) = node.inputs
            part = fresh("hardsigmoid")
            yield replace(node, result=part, operator="hardsigmoid")
            yield replace(node, operator="mul", inputs=(x, part))
        case "div" if known[1] is not None and _real(known[1]):
            factor = constant("factor", 1 / dense(known[1]))
            yield replace(node, operator="mul", inputs=(node.inputs[0], factor))
        case "sub" if known[1] is not None and _real(known[1]):
            term = constant("term", -dense(known[1]))
            yield replace(node, operator="add", inputs=(node.inputs[0], term))
        case "sub" if known[0] is not None and _real(known[0]):
            part = fresh("negative")
            minus = constant("factor", np.asarray(-1, dense(known[0]).dtype))
            yield replace(node, result=part, operator="mul", inputs=(node.inputs[1], minus))
            yield replace(node, operator="add", inputs=(part, node.inputs[0]))
        case _:
            yield node


def _padded(node: Node, pad: Node) -> Node:
    """Return a convolution with the padding of the node before it, if that is of zeros around the
    images.
    """
    batch, channels, *around = pad.attributes["padding"]
    if any((*batch, *channels)) or pad.attributes.get("value", 0) != 0:
        return node
    own = node.attributes["padding"]
    both = [[a + c, b + d] for (a, b), (c, d) in zip(around, own, strict=True)]
    inputs = (pad.inputs[0], *node.inputs[1:])
    return replace(node, inputs=inputs, attributes={**node.attributes, "padding": both})


def _real(array: Any) -> bool:
    return array.dtype.kind == "f"
