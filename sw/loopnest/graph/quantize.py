"""Quantised tensors of a file: each pair of `quantize` and `dequantize` becomes one operator."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..operators.quantized import limits
from .graph import Graph, Node, dense, unused
from .stages import MOVED
from .steps import Quantized, Steps, keeps_steps

ORDERED = ("max", "max_pool")
"""Operators that commute with `dequantize`."""


def with_steps(graph: Graph, *, integers: bool) -> Graph:
    """Return the graph with `fake_quantize` for `quantize` and `dequantize`, where their scale and
    zero point are known numbers. For chips without ``integers`` that is a clamp to what the
    integers can stand for: their numbers are not rounded to the file's steps.

    What is not a pair stays besides: a quantised output, or the numbers of a quantised input.
    """
    names = {*graph.inputs, *graph.constants, *(node.result for node in graph.nodes)}
    pairs = _pairs(graph)
    same: dict[str, str] = {}
    steps: dict[str, Steps] = {}
    of_quantized: dict[str, tuple[str, Steps]] = {}
    nodes: list[Node] = []

    def rounded(node: Node, name: str, source: str, found: Steps) -> str:
        """Add the operator that rounds a tensor to these steps, if it has others."""
        if steps.get(source) == found and name not in graph.outputs:
            same[name] = source
            return source
        attributes: Mapping[str, Any] = {
            "scale": found.scale, "low": found.low, "high": found.high
        }  # fmt: skip
        one = replace(
            node, result=name, operator="fake_quantize", inputs=(source,), attributes=attributes
        )
        nodes.append(one if integers else _clamp(one))
        steps[name] = found
        return name

    for node in graph.nodes:
        if node.operator == "fake_quantize" and not integers:
            node = _clamp(node)
        node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        found = _steps(node, graph.constants)
        source = node.inputs[0] if node.inputs else ""
        if found is None and source in steps and integers and _chooses(node, graph.constants):
            name = unused(f"{node.result}.chosen", names)
            names.add(name)
            nodes.append(replace(node, result=name))
            rounded(node, node.result, name, steps[source])
        elif found is None:
            nodes.append(node)
            if keeps_steps(node) and source in steps:
                steps[node.result] = steps[source]
            if node.operator in (*MOVED, *ORDERED) and source in of_quantized:
                # the same of the numbers that the integers stand for
                real, own = of_quantized[source]
                name = unused(f"{node.result}.steps", names)
                names.add(name)
                nodes.append(replace(node, result=name, inputs=(real,)))
                of_quantized[node.result] = name, own
                if node.operator in MOVED:
                    steps[name] = own
        elif node.operator == "quantize":
            name = pairs.get(node.result) or unused(f"{node.result}.steps", names)
            names.add(name)
            name = rounded(node, name, source, found)
            of_quantized[node.result] = name, found
            nodes.append(replace(node, inputs=(name, *node.inputs[1:])))
        elif of_quantized.get(source, ("", None))[1] == found:
            name = of_quantized[source][0]
            if node.result != name:
                rounded(node, node.result, name, found)
        else:
            name = unused(f"{node.result}.real", names)
            names.add(name)
            nodes.append(replace(node, result=name))
            rounded(node, node.result, name, found)
    constants = graph.constants
    if not integers:
        constants = {
            name: dense(array) if isinstance(array, Quantized) else array
            for name, array in constants.items()
        }
    return Graph(graph.inputs, constants, tuple(nodes), graph.outputs).needed()


def _chooses(node: Node, constants: Mapping[str, Any]) -> bool:
    """Return whether a product with a sparse constant chooses elements: its results have their
    steps.
    """
    if node.operator != "linear" or len(node.inputs) != 2:
        return False
    weights = constants.get(node.inputs[1])
    if weights is None or not sp.issparse(weights) or weights.nnz != weights.shape[0]:
        return False
    rows = sp.csr_array(weights)
    return bool(np.all(np.diff(rows.indptr) == 1) and np.all(rows.data == 1))


def _clamp(node: Node) -> Node:
    """Return a `fake_quantize` that does not round."""
    scale, low, high = (node.attributes[key] for key in ("scale", "low", "high"))
    return replace(node, operator="clamp", attributes={"low": low * scale, "high": high * scale})


def _pairs(graph: Graph) -> dict[str, str]:
    """Return, of what is quantised, the first tensor that `dequantize` makes of it with the same
    scale and zero point, by name.
    """
    quantized = {node.result: node for node in graph.nodes if node.operator == "quantize"}
    found: dict[str, str] = {}
    for node in graph.nodes:
        before = quantized.get(node.inputs[0]) if node.operator == "dequantize" else None
        own = _steps(node, graph.constants)
        if before is not None and own is not None and _steps(before, graph.constants) == own:
            found.setdefault(before.result, node.result)
    return found


def _steps(node: Node, constants: Mapping[str, Any]) -> Steps | None:
    """Return the steps of `quantize` or `dequantize`; None for other operators, and where they are
    not known, or several.
    """
    if node.operator not in ("quantize", "dequantize"):
        return None
    if not all(name in constants for name in node.inputs[1:]):
        return None
    scale, zero = (dense(constants[name]) for name in node.inputs[1:])
    if scale.size != 1 or zero.size != 1:
        return None
    first = int(zero.reshape(()))
    low, high = limits(zero.dtype)
    return Steps(float(scale.reshape(())), low - first, high - first)
