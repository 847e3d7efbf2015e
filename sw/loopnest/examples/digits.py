"""A pruned network on the chip: trains, prunes and quantises it, and classifies the test images.

Every layer is one kernel, ``Y[n,o] = X[n,i] * W[i,o]``, whose epilogue adds the bias, applies the
ReLU and makes int8 again, so activations stay compressed from layer to layer. The golden model runs
the same kernels, and has to agree bit for bit. Then the same network runs with dense weights and
activations on the same chip.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest import Chip, Epilogue, Memory, RunReport, Tensor
from loopnest.progress import task
from loopnest_hw.config import make_config
from loopnest_hw.program import program

from ..formats.files import check_writable
from ..report.run_energy import RunEnergy, added
from . import training
from .training import QuantisedLayer

STATEMENT = "Y[n,o] = X[n,i] * W[i,o]"
ORDER = "nio"
IMAGES_A_RUN = 50

REPORT, PLOT = "digits.json", "digits.png"

WITHIN = 0.02
"""How far the pruned network's accuracy may be from the float one's."""


@dataclass
class LayerTotal:
    """A layer's runs, added up; what the backend does not count stays None."""

    multiplies: int = 0
    dense_multiplies: int = 0
    leaf_steps: int = 0
    cycles: int | None = None
    roof: float | None = None
    pe_roof: float | None = None
    energy: RunEnergy | None = None

    def add(self, report: RunReport, dense_multiplies: int) -> None:
        """Add one run."""
        self.multiplies += report.multiplies
        self.dense_multiplies += dense_multiplies
        self.leaf_steps += report.leaf_steps
        if report.cycles is not None:
            self.cycles = (self.cycles or 0) + report.cycles
            # they are shown as shares of the cycles
            self.roof = (self.roof or 0) + report.roof
            self.pe_roof = (self.pe_roof or 0) + report.pe_roof
        if report.energy is not None:
            self.energy = report.energy if self.energy is None else self.energy + report.energy

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for ``json``."""
        energy = None if self.energy is None else self.energy.to_dict()
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"energy": energy}


@dataclass
class NetworkRun:
    """The whole test set through the network: logits, and each layer's totals."""

    logits: NDArray[np.int32]
    layers: list[LayerTotal] = field(default_factory=list)

    def total(self) -> LayerTotal:
        """Return all layers together."""

        def add(values: Sequence[float | None]) -> float | None:
            return None if None in values else sum(v for v in values if v is not None)

        cycles = add([layer.cycles for layer in self.layers])
        energies = {
            str(n): layer.energy
            for n, layer in enumerate(self.layers, 1)
            if layer.energy is not None
        }
        return LayerTotal(
            multiplies=sum(layer.multiplies for layer in self.layers),
            dense_multiplies=sum(layer.dense_multiplies for layer in self.layers),
            leaf_steps=sum(layer.leaf_steps for layer in self.layers),
            cycles=None if cycles is None else int(cycles),
            roof=add([layer.roof for layer in self.layers]),
            pe_roof=add([layer.pe_roof for layer in self.layers]),
            energy=added(energies) if len(energies) == len(self.layers) else None,
        )


def run_network(
    chip: Chip,
    network: Sequence[QuantisedLayer],
    images: NDArray[np.int8],
    label: str,
    *,
    sparse: bool,
) -> NetworkRun:
    """Classify the images, some at a time; compressed or with everything dense."""
    weight_levels = "dense,compressed" if sparse else "dense,dense"
    weights = [
        Tensor.from_dense(layer.weights, levels=weight_levels, dtype="int8") for layer in network
    ]
    totals = [LayerTotal() for _ in network]
    logits = []
    batches = [images[n : n + IMAGES_A_RUN] for n in range(0, len(images), IMAGES_A_RUN)]
    with task(label, len(batches) * len(network), keep=True) as shown:
        for batch in batches:
            x = Tensor.from_dense(batch, levels=weight_levels, dtype="int8")
            for n, layer in enumerate(network):
                last = layer.scale is None
                epilogue = Epilogue(
                    bias=layer.bias,
                    scale=layer.scale,
                    relu=not last,
                    out="wide" if last else "narrow",
                )
                out = "dense,compressed" if sparse and not last else "dense,dense"
                y = chip.compute(
                    STATEMENT, order=ORDER, out=out, epilogue=epilogue, X=x, W=weights[n]
                )
                assert isinstance(y, Tensor) and chip.report is not None
                totals[n].add(chip.report, len(batch) * layer.weights.size)
                x = y
                shown.advance()
            logits.append(x.to_dense())
    return NetworkRun(np.concatenate(logits), totals)


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options = _parse(arguments)
    console = Console()
    memory = Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)

    def make(backend: str) -> Chip:
        return Chip(
            options.preset,
            dtype="int8",
            memory=memory,
            backend=backend,
        )

    data = training.digits()
    images, labels = data.test_images[: options.images], data.test_labels[: options.images]
    epochs = training.EPOCHS + training.PRUNING_STEPS * training.FINE_TUNING_EPOCHS
    with task("training and pruning", epochs, keep=True) as shown:
        dense_network = training.train(data, lambda _: shown.advance())
        pruned = training.prune(dense_network, data, options.sparsity, lambda _: shown.advance())
        network = training.quantise(pruned, data)
    model = run_network(make("model"), network, images, "golden model", sparse=True)
    if options.backend == "rtl":
        with task("building the chip", keep=True):
            chip = make("rtl")
        run = run_network(chip, network, images, "chip", sparse=True)
    else:
        chip, run = make("model"), model
    dense = run_network(chip, network, images, "the same, dense", sparse=False)

    float_logits = training.forward(dense_network, images)[-1]
    accuracies = {
        "float": training.accuracy(float_logits, labels),
        "pruned, golden model": training.accuracy(model.logits, labels),
    }
    if options.backend == "rtl":
        accuracies["pruned, chip"] = training.accuracy(run.logits, labels)
    kept = [float(np.mean(layer.weights != 0)) for layer in network]
    _print(console, accuracies, kept, run, dense)
    problems = []
    if not np.array_equal(model.logits, run.logits):
        problems.append("the chip's results are not the golden model's")
    if not np.array_equal(dense.logits, run.logits):
        problems.append("the dense run's results are not the sparse run's")
    if abs(accuracies["float"] - accuracies["pruned, golden model"]) > WITHIN:
        problems.append(f"the pruned network is more than {WITHIN:.0%} away from the float one")
    report = {
        "images": len(images),
        "backend": options.backend,
        "preset": options.preset,
        "memory": {"latency": memory.latency, "bytes_per_cycle": memory.bytes_per_cycle},
        "accuracy": accuracies,
        "weights_kept": kept,
        **_totals(run, dense),
        "sparse": [layer.to_dict() for layer in run.layers],
        "dense": [layer.to_dict() for layer in dense.layers],
        "problems": problems,
    }
    json_path, plot_path = options.output / REPORT, options.output / PLOT
    json_path.write_text(json.dumps(report, indent=2) + "\n")
    _plot(plot_path, run, dense)
    console.print(f"report: {json_path}   plot: {plot_path}")
    for problem in problems:
        console.print(f"[red]wrong: {problem}[/red]")
    return 1 if problems else 0


def _totals(run: NetworkRun, dense: NetworkRun) -> dict[str, Any]:
    """Return the figures of all layers; what the backend does not count is None."""
    total = run.total()

    def share(roof: float | None) -> float | None:
        return None if roof is None or not total.cycles else roof / total.cycles

    return {
        "multiplies": total.multiplies,
        "cycles": total.cycles,
        "roof_share": share(total.roof),
        "pe_roof_share": share(total.pe_roof),
        "dense_cycles": dense.total().cycles,
        "dense_measured": dense.total().cycles is not None,
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loopnest.examples.digits", description=__doc__)
    parser.add_argument("--backend", choices=("rtl", "model"), default="rtl")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--latency", type=int, default=100, help="of the memory, in cycles")
    parser.add_argument("--bytes-per-cycle", type=float, default=32)
    parser.add_argument("--images", type=int, default=None, help="test images; default all")
    parser.add_argument("--sparsity", type=float, default=0.85, help="share of weights pruned")
    parser.add_argument("--output", type=Path, default=Path("build"))
    options = parser.parse_args(arguments)
    try:
        _check(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the training, what could not be run or saved."""
    make_config(options.preset, "int8")
    Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images {options.images}: expected 1 or more")
    if not 0 <= options.sparsity < 1:
        raise ValueError(f"--sparsity {options.sparsity}: expected 0 to less than 1")
    options.output.mkdir(parents=True, exist_ok=True)
    for file in (REPORT, PLOT):
        check_writable(options.output / file)


def _print(
    console: Console,
    accuracies: dict[str, float],
    kept: Sequence[float],
    run: NetworkRun,
    dense: NetworkRun,
) -> None:
    table = Table(title="Accuracy", title_justify="left", box=SIMPLE)
    for name in accuracies:
        table.add_column(name, justify="right")
    table.add_row(*(f"{share:.2%}" for share in accuracies.values()))
    console.print(table)

    title = "The test set, layer by layer (kept: weights; roofs as shares of the cycles)"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in (
        "layer", "kept", "multiplies", "skipped", "cycles", "dense cycles", "faster",
        "roof", "PE roof",
    ):  # fmt: skip
        table.add_column(name, justify="right")

    def row(name: str, share: float | None, sparse: LayerTotal, full: LayerTotal) -> None:
        def of_cycles(best: float | None) -> str:
            return "-" if best is None or not sparse.cycles else f"{best / sparse.cycles:.0%}"

        faster = full.cycles / sparse.cycles if sparse.cycles and full.cycles else None
        table.add_row(
            name,
            "" if share is None else f"{share:.0%}",
            f"{sparse.multiplies:,}",
            f"{1 - sparse.multiplies / max(1, sparse.dense_multiplies):.1%}",
            "-" if sparse.cycles is None else f"{sparse.cycles:,}",
            "-" if full.cycles is None else f"{full.cycles:,}",
            "-" if faster is None else f"{faster:.1f}x",
            of_cycles(sparse.roof),
            of_cycles(sparse.pe_roof),
        )

    for n, (share, sparse, full) in enumerate(zip(kept, run.layers, dense.layers, strict=True)):
        row(str(n + 1), share, sparse, full)
    total, dense_total = run.total(), dense.total()
    row("all", None, total, dense_total)
    console.print(table)
    if total.energy is not None and dense_total.energy is not None:
        console.print(total.energy.beside(dense_total.energy, ("pruned", "dense")))


def _plot(path: Path, run: NetworkRun, dense: NetworkRun) -> None:
    """Draw each layer's work, sparse and dense: cycles, or multiplies where none are counted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    counted = all(layer.cycles is not None for layer in [*run.layers, *dense.layers])
    unit = "cycles" if counted else "multiplies"
    title = "A pruned int8 network on handwritten digits"
    figures = _totals(run, dense)
    if counted:
        fewer = figures["dense_cycles"] / figures["cycles"]
        title += (
            f"\n{figures['cycles']:,} cycles, {figures['pe_roof_share']:.0%} of the PE's roof; "
            f"{fewer:,.1f}x fewer than dense"
        )
    names = [f"layer {n + 1}" for n in range(len(run.layers))]
    at = np.arange(len(names))
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for offset, what, label in ((-0.2, dense, "dense"), (0.2, run, "pruned, compressed")):
        heights = [getattr(layer, unit) for layer in what.layers]
        drawn = axes.bar(at + offset, heights, 0.4, label=label)
        axes.bar_label(drawn, [f"{height:,.0f}" for height in heights], fontsize=8)
    axes.set_title(title)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xticks(at, names)
    axes.set_ylabel(f"{unit}, whole test set")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
