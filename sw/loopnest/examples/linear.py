"""The linear layers of a graph: pruning by magnitude, and their cycles without zeros."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest import Chip

from ..graph.graph import Graph, Node, dense
from ..graph.model import Model

Array = NDArray[Any]


def linear_layers(graph: Graph) -> list[Node]:
    """Return the products with known weights."""
    return [
        node
        for node in graph.nodes
        if node.operator == "linear" and node.inputs[1] in graph.constants
    ]


def without_least(weights: Array, share: float) -> Array:
    """Return weights with zeros for the least of them, that share."""
    if not share:
        return weights
    magnitudes = np.abs(weights)
    return np.where(magnitudes >= np.quantile(magnitudes, share), weights, 0).astype(weights.dtype)


def pruned(graph: Graph, share: float) -> Graph:
    """Return a graph with zeros for the least weights of each linear layer, that share of them."""
    constants = dict(graph.constants)
    for name in {node.inputs[1] for node in linear_layers(graph)}:
        constants[name] = without_least(dense(constants[name]), share)
    return replace(graph, constants=constants)


def dense_cycles(chip: Chip, model: Model, *, measured: bool = False) -> dict[str, float]:
    """Return the cycles of each statement without a zero: measured, or as expected, times what one
    linear layer takes of what is expected of it.
    """
    without = model.dense()
    if measured:
        without()
        return {name: float(layer.cycles or 0) for name, layer in without.layers.items()}
    graph = model.graph
    layer, *_ = linear_layers(graph)
    source = layer.inputs[0]
    example = graph.part(graph.inputs, [source]).evaluate()
    sample = Model(chip.device, graph.part(example, [layer.result])).dense()
    sample()
    assert sample.report is not None and sample.report.cycles is not None
    rate = sample.report.cycles / sum(sample.expected.values())
    return {name: rate * cycles for name, cycles in without.expected.items()}
