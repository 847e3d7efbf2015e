"""GraphChallenge's sparse deep neural network, as one program that the chip runs in one start.

A layer is ``Y = clip(X W - 0.3, 0, 32)`` with 32 weights of 1/16 in each of 1,024 rows, the bias
only where ``X W`` has an entry; activations stay compressed in the chip's memory from layer to
layer. The images whose row of the last result is not empty are the answer. The golden model runs
the same kernels, and has to agree bit for bit in every layer.

Fewer images than a file has are spread over it, since those with a category are: 200 of 1,200 are
every sixth one. With ``--first`` they are those from there on.

Without a file the network is a RadiX-Net of the same size: layers in which neuron i leads to
``i + 32^d k`` for 32 values of k, with d = 0 and 1 in turn, each with its columns in a random order
(Robinett and Kepner, "RadiX-Net: Structured Sparse Matrices for Deep Neural Networks", 2019); the
images are scikit-learn's digits, scaled up.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from rich.console import Console

from loopnest import Assignment, Chip, Epilogue, Program, RunReport
from loopnest.lazy import lazy
from loopnest_hw.program import program as command

from .checked import run_checked
from .dense import DenseLayer, compare_energy, rows_of_part
from .figures import finish, print_layers, program_figures
from .options import check_options, chip_of, files_of, parser_of

NEURONS = 1024
WEIGHTS = 32
WEIGHT = 1 / 16
EPILOGUE = Epilogue(bias=-0.3, clamp=(0, 32))

ROUNDING = 1e-4
"""How far the sums of a layer may be from SciPy's, which adds in another order. A sum that is next
to 0.3 may have an activation in one of them and none in the other.
"""

DENSE_IMAGES = 2
"""Images of the dense run for each PE; more take as much longer."""


@dataclass(frozen=True)
class Network:
    """Weights by layer, of shape (1024, 1024), and images as rows, with their numbers."""

    weights: list[Any]
    images: Any
    numbers: NDArray[np.int64]

    def statements(self) -> list[Assignment]:
        """Return the layers as a program."""
        return [
            Assignment(
                statement=f"h{n + 1}[n,o] = h{n}[n,i] * W{n}[i,o]",
                order="nio",
                out="dense,compressed",
                epilogue=EPILOGUE,
            )
            for n in range(len(self.weights))
        ]

    def program(self, chip: Chip) -> Program:
        """Compile it for a chip; the results are the activations of every layer."""
        inputs = {"h0": self.images, **{f"W{n}": w for n, w in enumerate(self.weights)}}
        results = [(f"h{n + 1}", f"h{n + 1}") for n in range(len(self.weights))]
        samples = {f"h{n}": h for n, h in enumerate(self.reference)}
        return Program(chip.device, self.statements(), inputs, results=results, samples=samples)

    @property
    def shown(self) -> str:
        """Which images these are."""
        numbers = self.numbers
        step = int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
        each = f", in steps of {step}" if step > 1 else ""
        return f"{len(numbers):,} images ({numbers[0]:,} to {numbers[-1]:,}{each})"

    @lazy
    def reference(self) -> list[Any]:
        """Return the images and the activations of every layer, by SciPy."""
        found = [self.images.astype(np.float32)]
        for w in self.weights:
            found.append(layer(found[-1], w))
        return found

    def multiplies(self, activations: Sequence[Any]) -> list[int]:
        """Return the multiplies of each layer, counted from the patterns of what goes into it."""
        return [
            int(np.diff(w.indptr)[h.indices].sum())
            for h, w in zip(activations, self.weights, strict=False)
        ]


def layer(h: Any, w: Any) -> Any:
    """Return the activations after a layer, by SciPy."""
    y = (h @ w).tocsr()
    y.data = np.clip(y.data + np.float32(-0.3), 0, 32)
    y.eliminate_zeros()
    return y


def read_network(path: Path, layers: int, images: int, first: int | None = None) -> Network:
    """Return the network and the images of a file, from the first of these on; without one, they
    are spread over all, in equal steps.

    Raises
    ------
    ValueError
        If it lacks arrays, they have other shapes, or there are fewer layers or images.
    OSError
        If it can't be read.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            columns, indptr, indices = (
                found[name] for name in ("weight_columns", "image_indptr", "image_indices")
            )
    except (KeyError, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: {error}: expected weight_columns, image_indptr and "
                         f"image_indices in an .npz file") from None  # fmt: skip
    if columns.ndim != 3 or columns.shape[1:] != (NEURONS, WEIGHTS):
        raise ValueError(
            f"{path}: weight_columns has shape {columns.shape}: expected (layers, {NEURONS}, "
            f"{WEIGHTS})"
        )
    start, there = first or 0, len(indptr) - 1
    if layers > len(columns) or start + images > there:
        raise ValueError(
            f"{path} has {len(columns)} layers and {there} images: expected {layers} and "
            f"{start + images}"
        )
    numbers = start + np.arange(images) * (1 if first is not None else there // images)
    ones = np.ones(len(indices), np.float32)
    pictures = sp.csr_array((ones, indices, indptr.astype(np.int64)), (there, NEURONS))[numbers]
    return Network([_layer(c) for c in columns[:layers]], pictures, numbers)


def draw_network(layers: int, images: int, seed: int = 0) -> Network:
    """Return a RadiX-Net, and digits of 32 x 32 pixels of 0 and 1."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    i, k = np.indices((NEURONS, WEIGHTS))
    weights = []
    for n in range(layers):
        columns = rng.permutation(NEURONS)[(i + WEIGHTS ** (n % 2) * k) % NEURONS]
        weights.append(_layer(np.sort(columns, axis=1)))
    digits = load_digits().images
    some = digits[np.arange(images) % len(digits)]
    large = np.kron(some, np.ones((1, 4, 4))).reshape(images, NEURONS)
    return Network(weights, sp.csr_array((large >= 12).astype(np.float32)), np.arange(images))


def _layer(columns: Any) -> Any:
    """Return the weights of a layer, given the columns of each row."""
    data = np.full(columns.size, WEIGHT, np.float32)
    rows = np.arange(0, columns.size + 1, WEIGHTS)
    return sp.csr_array((data, columns.reshape(-1).astype(np.int64), rows), (NEURONS, NEURONS))


def dense_layers(chip: Chip, network: Network, *, measured: bool) -> list[DenseLayer] | None:
    """Return what each layer takes with everything dense, at the rate of one layer on a few images
    unless all are to be measured; None if the backend counts no cycles.
    """
    all_images = network.images.shape[0]
    some = all_images if measured else rows_of_part(chip, DENSE_IMAGES, all_images)
    images = network.images[:some]
    layers = network.weights if measured else network.weights[:1]
    times = all_images / some
    what = "" if measured else f"one layer on {some} of {all_images} images"
    found = []
    for weights in layers:
        chip.compute(
            "Y[n,o] = X[n,i] * W[i,o]",
            epilogue=EPILOGUE,
            X=chip.tensor(images.toarray(), levels="dense,dense"),
            W=chip.tensor(weights.toarray(), levels="dense,dense"),
        )
        if (layer := DenseLayer.of(chip.report, times, what)) is None:
            return None
        found.append(layer)
    return found if measured else found * len(network.weights)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options, network = _parse(arguments)
    console = Console()
    run = run_checked(options, network.program)
    compiled, report, result, problems = run.program, run.report, run.results, run.problems
    chip = chip_of(options, "bf16")
    layers = dense_layers(chip, network, measured=options.dense)
    dense = None if layers is None else sum(layer.cycles for layer in layers)
    line, energies = compare_energy(report, compiled.layers, layers)

    activations = [network.images, *result.values()]
    multiplies = network.multiplies(activations)
    categories = network.numbers[np.flatnonzero(np.diff(activations[-1].indptr))]
    for name, before, w in zip(result, activations, network.weights, strict=False):
        if abs(result[name] - layer(before, w)).max() > ROUNDING:
            problems.append(f"{name} is not what SciPy finds")
    if not np.array_equal(
        np.diff(activations[-1].indptr) > 0, np.diff(network.reference[-1].indptr) > 0
    ):
        problems.append("the categories are not those that SciPy finds")
    if [one.multiplies for one in compiled.layers.values()] != multiplies:
        problems.append("the multiplies are not those of the patterns")
    print_layers(console, compiled, report, layers)
    images = network.images.shape[0]
    if len(categories):
        console.print(f"{len(categories)} of {network.shown} have a category")
    else:
        console.print(f"none of {network.shown} has a category")
    some = rows_of_part(chip, DENSE_IMAGES, images)
    if dense is not None and report.cycles:
        how = "" if options.dense else f", by the rate of one layer on {some} images"
        console.print(
            f"everything dense: {dense:,.0f} cycles{how}: {dense / report.cycles:.0f}x as many\n"
            f"{line}"
        )
    figures = {
        "images": images,
        "image_numbers": [int(network.numbers[0]), int(network.numbers[-1])],
        "layers": len(network.weights),
        **program_figures(options, report),
        "categories": categories.tolist(),
        "dense_cycles": dense,
        **energies,
        "dense_measured": options.dense or f"one layer on {some} images",
        "layer_cycles": [layer.cycles for layer in compiled.layers.values()],
        "layer_multiplies": multiplies,
    }
    _plot(options, compiled, report, dense)
    return finish(options, console, figures, problems)


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Network]:
    parser = parser_of("graphchallenge", __doc__)
    parser.add_argument("--file", type=Path, help="network and images; default: drawn")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument(
        "--first", type=int, help="image of the file to start from; default: spread over all"
    )
    parser.add_argument("--layers", type=int, default=30)
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", ("images", "layers"))
        if options.first is not None and (options.first < 0 or options.file is None):
            raise ValueError(f"--first {options.first}: expected 0 or more, of a --file")
        if options.file is None:
            network = draw_network(options.layers, options.images)
        else:
            network = read_network(options.file, options.layers, options.images, options.first)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options, network


def _plot(
    options: argparse.Namespace, program: Program, report: RunReport, dense: float | None
) -> None:
    """Draw each layer's work beside that of the dense network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    layers = list(program.layers.values())
    unit = "multiplies" if report.cycles is None else "cycles"
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    at = np.arange(1, len(layers) + 1)
    axes.bar(at, [getattr(layer, unit) for layer in layers], label="sparse")
    title = f"GraphChallenge, {len(layers)} layers of {NEURONS:,} neurons in one start"
    if dense is not None and report.cycles and report.pe_roof_share is not None:
        label = "dense" if options.dense else "dense (estimated)"
        axes.axhline(dense / len(layers), color="tab:orange", label=label)
        title += (
            f"\n{report.cycles:,} cycles, {report.pe_roof_share:.0%} of the PE's roof; "
            f"{dense / report.cycles:,.0f}x fewer than dense"
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_title(title)
    axes.set_xlabel("layer")
    axes.set_ylabel(unit)
    axes.legend()
    figure.savefig(files_of(options)[1], dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
