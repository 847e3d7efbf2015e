"""The linear layers of a graph: pruning by magnitude, and what they take without zeros."""

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
from .dense import DenseLayer, compare_energy
from .figures import print_layers
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


def dense_layers(chip: Chip, model: Model, *, measured: bool = False) -> dict[str, DenseLayer]:
    """Return what each statement takes without a zero: measured, or as expected, times what one
    linear layer takes of what is expected of it.
    """
    without = model.dense()
    if measured:
        without()
        found = {name: DenseLayer.of(report) for name, report in without.layers.items()}
        return {name: layer for name, layer in found.items() if layer is not None}
    graph = model.graph
    layer, *_ = linear_layers(graph)
    source = layer.inputs[0]
    example = graph.part(graph.inputs, [source]).evaluate()
    sample = Model(chip.device, graph.part(example, [layer.result])).dense()
    sample()
    expected = sum(sample.expected.values())
    what = f"{layer.result}, by the cycles that are expected"
    found = {
        name: DenseLayer.of(sample.report, cycles / expected, what)
        for name, cycles in without.expected.items()
    }
    return {name: layer for name, layer in found.items() if layer is not None}


def compare_dense(
    options: argparse.Namespace, console: Console, model: Model, label: str = ""
) -> tuple[list[DenseLayer] | None, dict[str, Any]]:
    """Return what each layer of the last run takes without a zero, as ``--dense`` says, or None if
    the backend counts no cycles; and the figures of the comparison. Layers and figures are printed.
    """
    names = ("dense_cycles", "dense_layer_cycles", "linear_cycles", "linear_faster")
    figures: dict[str, Any] = dict.fromkeys(names)
    figures["dense_measured"] = options.dense or "a linear layer; the others by its rate"
    figures["dense_energy"] = None
    before = f"{label}: " if label else ""
    report = model.report
    assert report is not None
    if report.cycles is None:
        print_layers(console, model, report)
        return None, figures
    with task(f"{before}without zeros", keep=True):
        layers = dense_layers(chip_of(options, "bf16"), model, measured=options.dense)
    cycles = {name: layer.cycles for name, layer in layers.items()}
    ordered = [layers[name] for name in model.layers]
    line, energies = compare_energy(report, model.layers, ordered)
    print_layers(console, model, report, ordered)
    linear = {placed.layer for placed in model.placement if placed.node.operator == "linear"}
    own = sum(model.layers[layer].cycles or 0 for layer in linear)
    dense = sum(cycles.values())
    faster = sum(cycles[layer] for layer in linear) / own
    how = "" if options.dense else " (estimated by the rate of a linear layer)"
    console.print(
        f"{before}{report.cycles:,} cycles; {dense:,.0f} without zeros{how}, "
        f"{dense / report.cycles:.2f}x as many\n"
        f"{before}{own:,} of them in linear layers, {faster:.2f}x fewer than without zeros\n"
        f"{before}{line}"
    )
    found = dense, cycles, own, faster
    figures |= dict(zip(names, found, strict=True)) | energies
    return ordered, figures
