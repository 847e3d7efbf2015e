"""A pruned network on the chip: trains, prunes and quantises it, and classifies the test images.

It is one program, which the chip runs in one start. A layer is ``Y[n,o] = X[n,i] * W[i,o]``, whose
epilogue adds the bias, applies the ReLU and makes int8 again, so activations stay compressed from
layer to layer. The golden model runs the same kernels, and has to agree bit for bit. Then the same
network runs with dense weights and activations on the same chip.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest import Assignment, Chip, Epilogue, Program, RunReport, Tensor
from loopnest.progress import task
from loopnest_hw.program import program as command

from . import training
from .checked import run_checked
from .dense import DenseLayer, compare_energy
from .figures import finish, plot_layers, program_figures
from .options import check_options, chip_of, parser_of
from .training import QuantisedLayer

IMAGES = 450
"""Of the test set."""

WITHIN = 0.02
"""How far the pruned network's accuracy may be from the float one's."""


def compiled(
    chip: Chip, network: Sequence[QuantisedLayer], images: NDArray[np.int8], *, sparse: bool
) -> Program:
    """Return the network as a program; compressed, or with everything dense."""
    levels = "dense,compressed" if sparse else "dense,dense"
    inputs = {"h0": Tensor.from_dense(images, levels=levels, dtype="int8")}
    statements = []
    for n, layer in enumerate(network, 1):
        inputs[f"W{n}"] = Tensor.from_dense(layer.weights, levels=levels, dtype="int8")
        last = layer.scale is None
        statements.append(
            Assignment(
                statement=f"h{n}[n,o] = h{n - 1}[n,i] * W{n}[i,o]",
                order="nio",
                out="dense,dense" if last else levels,
                epilogue=Epilogue(
                    bias=layer.bias,
                    scale=layer.scale,
                    relu=not last,
                    out="wide" if last else "narrow",
                ),
            )
        )
    return Program(chip.device, statements, inputs)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options = _parse(arguments)
    console = Console()
    data = training.digits()
    images, labels = data.test_images[: options.images], data.test_labels[: options.images]
    epochs = training.EPOCHS + training.PRUNING_STEPS * training.FINE_TUNING_EPOCHS
    with task("training and pruning", epochs, keep=True) as shown:
        dense_network = training.train(data, lambda _: shown.advance())
        pruned = training.prune(dense_network, data, options.sparsity, lambda _: shown.advance())
        network = training.quantise(pruned, data)

    run = run_checked(
        options, lambda chip: compiled(chip, network, images, sparse=True), dtype="int8"
    )
    problems = run.problems
    with task("the same, dense", keep=True):
        dense = compiled(chip_of(options, "int8"), network, images, sparse=False)
        logits = dense.run()
    (found,), (same,) = run.results.values(), logits.values()
    if not np.array_equal(found, same):
        problems.append("the dense run's results are not the sparse run's")
    accuracies = {
        "float": training.accuracy(training.forward(dense_network, images)[-1], labels),
        "pruned": training.accuracy(found, labels),
    }
    if abs(accuracies["float"] - accuracies["pruned"]) > WITHIN:
        problems.append(f"the pruned network is more than {WITHIN:.0%} away from the float one")
    kept = [float(np.mean(layer.weights != 0)) for layer in network]
    sizes = [len(images) * layer.weights.size for layer in network]
    report, slow = run.report, dense.report
    assert isinstance(slow, RunReport)
    _print_accuracies(console, accuracies)
    rows = zip(
        run.program.layers,
        kept,
        sizes,
        run.program.layers.values(),
        dense.layers.values(),
        strict=True,
    )
    _print_layers(console, [*rows, ("all", None, sum(sizes), report, slow)])
    if report.energy is not None and slow.energy is not None:
        console.print(report.energy.beside(slow.energy, ("pruned", "dense")))
    found_layers = [DenseLayer.of(layer) for layer in dense.layers.values()]
    layers = [layer for layer in found_layers if layer is not None] or None
    _, energies = compare_energy(report, run.program.layers, layers)
    figures = {
        "images": len(images),
        **program_figures(options, report),
        "accuracy": accuracies,
        "weights_kept": kept,
        "skipped": 1 - report.multiplies / sum(sizes),
        "dense_cycles": slow.cycles,
        "dense_measured": slow.cycles is not None,
        **energies,
        "layer_cycles": [layer.cycles for layer in run.program.layers.values()],
        "dense_layer_cycles": [layer.cycles for layer in dense.layers.values()],
        "layer_multiplies": [layer.multiplies for layer in run.program.layers.values()],
    }
    title = "A pruned int8 network on handwritten digits"
    plot_layers(options, title, run.program, report, layers, measured=True)
    return finish(options, console, figures, problems)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("digits", __doc__, part=False)
    parser.add_argument("--images", type=int, default=IMAGES, help="of the test set's 450")
    parser.add_argument("--sparsity", type=float, default=0.85, help="share of weights pruned")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "int8", ["images"], ["sparsity"])
        if options.images > IMAGES:
            raise ValueError(f"--images {options.images}: expected {IMAGES} at most")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def _print_accuracies(console: Console, accuracies: dict[str, float]) -> None:
    table = Table(title="Accuracy", title_justify="left", box=SIMPLE)
    for name in accuracies:
        table.add_column(name, justify="right")
    table.add_row(*(f"{share:.2%}" for share in accuracies.values()))
    console.print(table)


def _print_layers(
    console: Console, rows: Sequence[tuple[str, float | None, int, RunReport, RunReport]]
) -> None:
    """Print, of each layer and of all, the share of its weights that are kept, its multiplies
    without a zero, and its reports, sparse and dense.
    """
    title = "The test set, layer by layer (kept: weights; roofs as shares of the cycles)"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in (
        "layer", "kept", "multiplies", "skipped", "cycles", "dense cycles", "faster",
        "roof", "PE roof",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for name, kept, size, sparse, full in rows:
        counted = ["-"] * 5
        if sparse.cycles is not None and full.cycles is not None:
            counted = [
                f"{sparse.cycles:,}",
                f"{full.cycles:,}",
                f"{full.cycles / sparse.cycles:.1f}x",
                f"{sparse.roof_share:.0%}",
                f"{sparse.pe_roof_share:.0%}",
            ]
        table.add_row(
            name,
            "" if kept is None else f"{kept:.0%}",
            f"{sparse.multiplies:,}",
            f"{1 - sparse.multiplies / size:.1%}",
            *counted,
        )
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
