"""The linear layers of a graph: pruning by magnitude, and their cycles without zeros."""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from loopnest import Chip
from loopnest.progress import task

from ..graph.graph import Graph, Node, dense
from ..graph.model import Model
from .options import chip_of

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


def compare_dense(
    options: argparse.Namespace, console: Console, model: Model, label: str = ""
) -> tuple[list[float] | None, dict[str, Any]]:
    """Return the cycles of each layer of the last run without a zero, as ``--dense`` says, or None
    if the backend counts none; and the figures of the comparison, which are printed.
    """
    names = ("dense_cycles", "dense_layer_cycles", "linear_cycles", "linear_faster")
    figures: dict[str, Any] = dict.fromkeys(names)
    figures["dense_measured"] = options.dense or "a linear layer; the others by its rate"
    before = f"{label}: " if label else ""
    report = model.report
    assert report is not None
    if report.cycles is None:
        return None, figures
    with task(f"{before}without zeros", keep=True):
        cycles = dense_cycles(chip_of(options, "bf16"), model, measured=options.dense)
    linear = {placed.layer for placed in model.placement if placed.node.operator == "linear"}
    own = sum(model.layers[layer].cycles or 0 for layer in linear)
    dense = sum(cycles.values())
    faster = sum(cycles[layer] for layer in linear) / own
    how = "" if options.dense else " (estimated by the rate of a linear layer)"
    console.print(
        f"{before}{report.cycles:,} cycles; {dense:,.0f} without zeros{how}, "
        f"{dense / report.cycles:.2f}x as many\n"
        f"{before}{own:,} of them in linear layers, {faster:.2f}x fewer than without zeros"
    )
    found = dense, cycles, own, faster
    figures |= dict(zip(names, found, strict=True))
    return [cycles[layer] for layer in model.layers], figures
