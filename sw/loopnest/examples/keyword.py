"""Sparse weights times sparse activations: a network whose neurons have few weights, of which only
the winners are active, on scikit-learn's digits.

Of all weights 1 in 32 is there, and each hidden layer keeps 5 % of its activations (Ahmad and
Scheinkman, "How Can We Be So Dense?", 2019). The network is trained here (`winners`). The host
finds the winners; the chip gets them without the zeros between them, and multiplies where both a
weight and an activation are. The golden model has to agree bit for bit.

The same network runs with dense activations, and on some images without a zero. With ``--dense``
that is measured for all images.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from loopnest import Chip
from loopnest.progress import task
from loopnest_hw.program import program as command

from ..graph.graph import Graph, Node
from ..graph.model import Model
from .checked import run_checked
from .dense import DenseLayer, compare_energy, rows_of_part
from .figures import finish, plot_layers, print_layers, program_figures
from .options import check_options, chip_of, parser_of
from .training import accuracy, digits
from .winners import Layer, draw, forward, train

HIDDEN = 1024
WINNERS = 51
"""Of the 1,024 activations of a hidden layer."""
FAN_IN = (6, 18, HIDDEN)
"""Weights of each neuron by layer: together 1 in 32 of all that there could be."""
EPOCHS = 40

DENSE_IMAGES = 4
"""Images of the dense run for each PE; more take as much longer."""

MAX_LOSS = 0.02
"""Share of the images that bf16 may cost: it changes which of nearly equal activations win."""

Array = NDArray[np.float32]


def trained(epochs: int) -> tuple[list[Layer], Array, NDArray[np.int64]]:
    """Return a trained network, and test images (images, pixels) with their labels."""
    data = digits()
    images, tests = ((x / 16).astype(np.float32) for x in (data.train_images, data.test_images))
    classes = int(data.train_labels.max()) + 1
    # pixels at the border are never set
    layers = draw(images.std(axis=0) > 0.02, (HIDDEN, HIDDEN, classes), FAN_IN)
    with task("training", epochs, keep=True) as shown:
        train(
            layers,
            images.T,
            data.train_labels,
            winners=WINNERS,
            epochs=epochs,
            step=shown.advance,
        )
    return layers, tests, data.test_labels


def graph_of(layers: Sequence[Layer], images: Array, winners: int) -> Graph:
    """Return the network, for as many images as these."""
    constants: dict[str, Any] = {"zero": np.float32(0)}
    nodes: list[Node] = []
    x = "images"
    for n, layer in enumerate(layers, 1):
        constants |= {f"w{n}": layer.weights, f"b{n}": layer.bias[:, 0]}
        sums = f"layer{n}"
        nodes.append(Node(sums, "linear", (x, f"w{n}", f"b{n}")))
        if n < len(layers):
            x = f"winners{n}"
            nodes += [
                Node(f"largest{n}", "top_k", (sums,), {"k": winners}),
                Node(f"least{n}", "min", (f"largest{n}",), {"axes": [-1], "keepdims": True}),
                Node(f"wins{n}", "compare", (sums, f"least{n}"), {"relation": "greater_equal"}),
                Node(x, "where", (f"wins{n}", sums, "zero")),
            ]
    return Graph({"images": images}, constants, tuple(nodes), (sums,))


def layers_of(model: Model, times: float = 1, what: str = "") -> list[DenseLayer]:
    """Return what each layer took in the last run, which is a part of one (`DenseLayer.of`)."""
    found = (DenseLayer.of(layer, times, what) for layer in model.layers.values())
    return [layer for layer in found if layer is not None]


def cycles_of(layers: Sequence[DenseLayer]) -> float:
    """Return the cycles of all layers."""
    return sum(layer.cycles for layer in layers)


def others(
    chip: Chip, model: Model, layers: Sequence[Layer], *, measured: bool
) -> tuple[list[DenseLayer], list[DenseLayer]]:
    """Return what each layer takes with dense activations, and without a zero: of some images,
    for as many as the model has, or of all if they are to be measured.
    """
    images = model.graph.inputs["images"]
    weights_only = Model(chip.device, model.graph, skip_zeros=False)
    with task("dense activations", keep=True):
        weights_only()
    some = images
    if not measured:
        some = images[: rows_of_part(chip, DENSE_IMAGES, len(images))]
        model = Model(chip.device, graph_of(layers, some, WINNERS))
    dense = model.dense()
    with task("without zeros", keep=True):
        dense()
    what = "" if measured else f"{len(some)} of {len(images)} images"
    return layers_of(weights_only), layers_of(dense, len(images) / len(some), what)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options = _parse(arguments)
    console = Console()
    layers, images, labels = trained(options.epochs)
    images, labels = images[: options.images], labels[: options.images]
    graph = graph_of(layers, images, WINNERS)

    run = run_checked(options, lambda chip: Model(chip.device, graph))
    model, report, problems = run.program, run.report, run.problems
    chip = chip_of(options, "bf16")
    some = rows_of_part(chip, DENSE_IMAGES, len(images))
    rows = None
    if options.backend == "rtl":
        rows = others(chip, model, layers, measured=options.dense)

    size = sum(int(np.prod(layer.weights.shape)) for layer in layers)
    kept = sum(layer.weights.nnz for layer in layers) / size
    skipped = 1 - report.multiplies / (size * len(images))
    shares = {
        "float": accuracy(forward(layers, images.T, WINNERS).T, labels),
        options.backend: accuracy(run.result, labels),
    }
    if shares[options.backend] < shares["float"] - MAX_LOSS:
        problems.append(f"bf16 costs more than {MAX_LOSS:.0%} of the images")
    print_layers(console, model, report, None if rows is None else rows[1])
    console.print(
        f"images of the right class: {shares['float']:.1%} in float32, "
        f"{shares[options.backend]:.1%} on the {options.backend} backend; {kept:.1%} of the "
        f"weights, {WINNERS / HIDDEN:.1%} of the activations, {skipped:.2%} of the multiplies "
        f"skipped"
    )
    cycles = {}
    line, energies = compare_energy(report, model.layers, None if rows is None else rows[1])
    if rows is not None:
        assert report.cycles is not None
        weights_only, dense = (cycles_of(layers) for layers in rows)
        cycles = {"dense_activations_cycles": weights_only, "dense_cycles": dense}
        how = "" if options.dense else f", by the rate of {some} images"
        console.print(
            f"cycles: {dense:,.0f} without a zero{how}; {weights_only:,.0f} with sparse "
            f"weights, {dense / weights_only:.1f}x fewer; {report.cycles:,} with sparse "
            f"weights and activations, {dense / report.cycles:.0f}x fewer\n{line}"
        )
    figures = {
        "images": len(images),
        "weights_kept": kept,
        "activations_kept": WINNERS / HIDDEN,
        **program_figures(options, report),
        "dense_multiplies": size * len(images),
        "skipped": skipped,
        "dense_cycles": None,
        **cycles,
        **energies,
        "dense_measured": options.dense or f"{some} images, the others by their rate",
        "accuracy": shares,
        "placement": list(model.placement.rows()),
    }
    active = WINNERS / HIDDEN
    title = f"{kept:.1%} of the weights, {active:.1%} of the activations, {len(images)} digits"
    plot_layers(
        options,
        title,
        model,
        report,
        None if rows is None else rows[1],
        others={} if rows is None else {"sparse weights only": [x.cycles for x in rows[0]]},
        measured=options.dense,
    )
    return finish(options, console, figures, problems)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("keyword", __doc__)
    parser.add_argument("--images", type=int, default=128, help="of the test set's 450")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", ["images", "epochs"])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    raise SystemExit(main())
