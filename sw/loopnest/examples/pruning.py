"""Pruning of a network's pointwise convolutions without training.

In each layer the weights of the least magnitude become 0, and the others are fitted, by least
squares, to what the layer computed before, given what the pruned layers before it compute now
(as in Frantar and Alistarh, "Optimal Brain Compression", 2022).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import Graph, Node, dense

Array = NDArray[Any]

MAX_PIXELS = 20_000
"""Pixels that a layer is fitted to."""

RIDGE = 1e-3
"""What is added to the diagonal of the normal equations, as a share of its mean."""


def pointwise(graph: Graph) -> list[Node]:
    """Return the convolutions of one pixel, in one group, with known weights."""
    return [
        node
        for node in graph.nodes
        if node.operator == "conv"
        and node.inputs[1] in graph.constants
        and set(graph.constants[node.inputs[1]].shape[2:]) == {1}
        and node.attributes.get("groups", 1) == 1
    ]


def layer_results(graph: Graph) -> dict[str, Array]:
    """Return what the pointwise convolutions compute for the examples of a graph's inputs."""
    layers = {node.result for node in pointwise(graph)}
    return {node.result: found for node, found in graph.walk() if node.result in layers}


def prune(
    graph: Graph, share: float, before: Mapping[str, Array] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Return a graph's constants, with zeros among the weights of its pointwise convolutions.

    Parameters
    ----------
    graph : Graph
        The other weights are fitted to the examples of its inputs.
    share : float
        Of each layer's weights that become 0.
    before : mapping of str to array, optional
        `layer_results` of the graph.
    """
    rng = np.random.default_rng(seed)
    before = layer_results(graph) if before is None else before
    constants = {name: dense(array) for name, array in graph.constants.items()}
    values = dict(constants) | dict(graph.inputs)
    last = {name: node for node in graph.nodes for name in node.inputs}
    for node in graph.nodes:
        if node.result in before:
            x, weight = values[node.inputs[0]], constants[node.inputs[1]]
            # a weight counts by the size of what it adds (Sun et al., "A Simple and Effective
            # Pruning Approach for Large Language Models", 2024)
            sizes = np.abs(weight) * np.sqrt(np.square(x).mean(axis=(0, 2, 3)))[:, None, None]
            kept = sizes >= np.quantile(sizes, share)
            place = _offset(graph, node, constants)
            fitted, offset = _fit(
                x, before[node.result], kept[..., 0, 0], node, rng, centred=place is not None
            )
            values[node.inputs[1]] = fitted.reshape(weight.shape).astype(weight.dtype)
            constants[node.inputs[1]] = values[node.inputs[1]]
            if place is not None:
                name, factor = place
                old = constants[name]
                change = (factor * offset).reshape(old.shape).astype(old.dtype)
                constants[name] = values[name] = old + change
        values[node.result] = node.apply(*(values[name] for name in node.inputs))
        for name in set(node.inputs):
            if last[name] is node:
                del values[name]
    return constants


def _fit(
    x: Array, y: Array, kept: Array, node: Node, rng: np.random.Generator, *, centred: bool
) -> tuple[Array, Array]:
    """Return weights (filters, channels), 0 where they are not kept, and an offset for each
    filter, which is 0 if the pixels are not ``centred``.
    """
    steps = node.attributes["stride"]
    x = x[:, :, :: steps[0], :: steps[1]]
    pixels, wanted = (np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]).astype(float) for a in (x, y))
    if len(pixels) > MAX_PIXELS:
        some = rng.choice(len(pixels), MAX_PIXELS, replace=False)
        pixels, wanted = pixels[some], wanted[some]
    middle, mean = (a.mean(axis=0) * centred for a in (pixels, wanted))
    pixels, wanted = pixels - middle, wanted - mean
    products, targets = pixels.T @ pixels, pixels.T @ wanted
    products += RIDGE * np.eye(len(products)) * (np.trace(products) / len(products) + 1e-12)
    fitted = np.zeros(kept.shape)
    for row, some, target in zip(fitted, kept, targets.T, strict=True):
        row[some] = np.linalg.solve(products[np.ix_(some, some)], target[some])
    return fitted, mean - fitted @ middle


def _offset(graph: Graph, node: Node, constants: Mapping[str, Array]) -> tuple[str, Array] | None:
    """Return the constant that is added to each filter's result, and the factors before that; None
    if there is none.
    """
    uses, factor = graph.uses(), np.ones(constants[node.inputs[1]].shape[0])
    users = uses.get(node.result, [])
    while len(users) == 1 and users[0].operator in ("mul", "add"):
        known = [name for name in users[0].inputs if name in constants]
        if len(known) != 1 or constants[known[0]].size != factor.size:
            return None
        if users[0].operator == "add":
            return known[0], factor
        factor = factor * constants[known[0]].reshape(-1)
        users = uses.get(users[0].result, [])
    return None
