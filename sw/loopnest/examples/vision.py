"""The direction classifier of rapidocr-onnxruntime on crops of text, upright and upside down.

The network comes from the package's ONNX file as it is, and runs as one program, all its layers in
one start. Before it is pruned it has to find the same class as ONNX Runtime: in bf16 for every
crop, in int8 for 98 % of them. Then its pointwise convolutions get zeros, as many as keep 98 % of
the answers (by NumPy, and on the golden model in bf16 for those that run there), and the cycles are
set beside those of the same network without zeros. The chip's results are compared with the golden
model's bit for bit.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import loopnest
from loopnest import Chip
from loopnest.progress import task
from loopnest_hw.program import program as command

from ..frontends.onnx import from_onnx
from ..graph.graph import Graph
from ..graph.model import Model
from .crops import draw_crops
from .dense import DenseLayer, compare_energy
from .figures import finish, micro, program_figures
from .options import check_options, chip_of, files_of, parser_of
from .packages import find_file
from .pruning import layer_results, pointwise, prune

PACKAGE, PROJECT = "rapidocr_onnxruntime", "rapidocr-onnxruntime"
FILE = "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"

KEPT_ANSWERS = 0.98
"""The share of answers that have to stay as they are when the network is pruned, or in int8."""

SAMPLES = 32
"""Crops that weights are fitted to, and int8's scales; they are others than those that are
classified.
"""

AT_ONCE = 20

SHARES = np.arange(0, 1, 0.05)
"""Shares of zeros in pointwise convolutions that are tried."""

Array = NDArray[Any]


def classify(graph: Graph, crops: Array) -> Array:
    """Return the classes of crops, by NumPy; the graph has ``AT_ONCE`` of them."""
    found = []
    for first in range(0, len(crops), AT_ONCE):
        some = crops[first : first + AT_ONCE]
        full = np.zeros_like(graph.inputs["x"])
        full[: len(some)] = some
        (scores,) = graph.evaluate({"x": full}).values()
        found.append(scores.argmax(axis=1)[: len(some)])
    return np.concatenate(found)


def runtime_classes(path: Path, crops: Array) -> tuple[Array, str]:
    """Return the classes of crops by ONNX Runtime, or by NumPy where it is not installed, and which
    of them it was.
    """
    if find_spec("onnxruntime") is None:
        return classify(from_onnx(path, [crops[:1].repeat(AT_ONCE, axis=0)]), crops), "NumPy"
    import onnxruntime

    (scores,) = onnxruntime.InferenceSession(path).run(None, {"x": crops})
    return scores.argmax(axis=1), "ONNX Runtime"


def largest_share(
    path: Path, fitted: Graph, exact: Mapping[str, Array], crops: Array, wanted: Array
) -> int:
    """Return the number of the largest of `SHARES` at which `KEPT_ANSWERS` stay, by NumPy."""
    graph = from_onnx(path, [crops[:1].repeat(AT_ONCE, axis=0)])
    low, high = 0, len(SHARES)
    with task("pruning", int(np.ceil(np.log2(high))) + 1, keep=True) as shown:
        while high - low > 1:
            middle = (low + high) // 2
            constants = prune(fitted, float(SHARES[middle]), exact)
            classes = classify(replace(graph, constants=constants), crops)
            if np.mean(classes == wanted) >= KEPT_ANSWERS:
                low = middle
            else:
                high = middle
            shown.advance()
    return low


def least(share: float, crops: Array) -> int:
    """Return how many of the crops' answers have to stay."""
    return int(np.ceil(share * len(crops)))


def zeros_of(graph: Graph) -> float:
    """Return the share of zeros among the weights of pointwise convolutions."""
    weights = [np.asarray(graph.constants[node.inputs[1]]) for node in pointwise(graph)]
    return 1 - sum(map(np.count_nonzero, weights)) / sum(w.size for w in weights)


def compiled(graph: Graph, chip: Chip, samples: Array | None = None) -> Model:
    """Return the program of a graph; on an int8 chip its scales are taken from samples."""
    calibrate = None if samples is None else [(sample[None],) for sample in samples]
    program = loopnest.compile(graph, chip=chip, calibrate=calibrate)
    assert isinstance(program, Model)
    return program


def run(program: Model, crops: Array, label: str) -> Array:
    """Return the scores of crops, one after the other."""
    scores = []
    with task(label, len(crops), keep=True) as shown:
        for crop in crops:
            scores.append(program(crop[None])[0])
            shown.advance()
    return np.array(scores)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options, path = _parse(arguments)
    console = Console()
    with task("drawing crops", keep=True):
        crops, labels = draw_crops(options.crops)
    samples, _ = draw_crops(SAMPLES, seed=1)
    wanted, reference = runtime_classes(path, crops)
    fitted = from_onnx(path, [samples])
    exact = layer_results(fitted)
    graph = from_onnx(path, [crops[:1]])
    if options.zeros is None:
        shares = SHARES[largest_share(path, fitted, exact, crops, wanted) :: -1]
    else:
        shares = np.array([options.zeros])

    checked = crops[: options.checked]
    model_chip = chip_of(options, "bf16", "model")
    with task("compiling", 2, keep=True) as shown:
        whole = compiled(graph, model_chip)
        shown.advance()
        integers = compiled(graph, chip_of(options, "int8", "model"), samples)
        shown.advance()
    answers = {
        "bf16": run(whole, checked, "golden model, bf16"),
        "int8": run(integers, checked, "golden model, int8"),
    }

    def kept(name: str) -> int:
        return int((answers[name].argmax(axis=1) == wanted[: len(checked)]).sum())

    # in bf16 a few answers may be others than by NumPy
    for share in shares:
        constants = prune(fitted, float(share), exact)
        pruned = replace(graph, constants={n: constants[n] for n in graph.constants})
        sparse = compiled(pruned, model_chip)
        answers["pruned"] = run(sparse, checked, f"golden model, {share:.0%} pruned, bf16")
        if kept("pruned") >= least(KEPT_ANSWERS, checked):
            break
    problems = []
    same = {name: kept(name) for name in answers}
    for name, share in {"bf16": 1.0, "int8": KEPT_ANSWERS, "pruned": KEPT_ANSWERS}.items():
        if same[name] < least(share, checked):
            problems.append(
                f"{name}: {same[name]} of {len(checked)} classes are those of {reference}"
            )

    chosen, before = sparse, None
    if options.backend == "rtl":
        chip = chip_of(options, "bf16")
        chosen = compiled(pruned, chip)
        runs = {"pruned": (chosen, options.on_chip)}
        if options.whole:
            before = compiled(graph, chip)
            runs["bf16"] = before, options.whole
        for name, (program, count) in runs.items():
            found = run(program, checked[:count], f"chip, {name}")
            if found.tobytes() != answers[name][:count].tobytes():
                problems.append(f"{name}: the chip's results are not the golden model's")
    report = chosen.report
    assert report is not None
    dense = chosen.dense()
    measured = options.dense and options.backend == "rtl"
    if measured:
        run(dense, checked[:1], "chip, without zeros")
    cycles, dense_cycles = (round(sum(one.cycles.values())) for one in (chosen, dense))
    layers = [DenseLayer.of(layer) for layer in dense.layers.values()] if measured else []
    slow_layers = [layer for layer in layers if layer is not None] or None
    line, energies = compare_energy(report, dense.layers, slow_layers)
    counted = report.cycles is not None
    figures = {
        "crops": len(crops),
        "checked_by_golden_model": len(checked),
        **program_figures(options, report),
        "reference": reference,
        "accuracy": {
            reference: float(np.mean(wanted == labels)),
            **{name: float(np.mean(s.argmax(axis=1) == labels[: len(s)]))
               for name, s in answers.items()},
        },
        "same_class": same,
        "on_chip": {"pruned": options.on_chip, "bf16": options.whole} if counted else {},
        "zeros_of_pointwise_weights": {
            "bf16": zeros_of(graph), "int8": zeros_of(graph), "pruned": zeros_of(pruned)
        },
        "operators_on_host": [p.node.origin for p in chosen.placement if p.where == "host"],
        "cycles": cycles,
        "cycles_measured": counted,
        "cycles_before_pruning": before and before.report and before.report.cycles,
        "dense_cycles": dense_cycles,
        "dense_measured": measured,
        **energies,
        "layers": list(chosen.placement.rows()),
    }  # fmt: skip
    _plot(files_of(options)[1], chosen, dense, figures)
    _print(console, figures)
    if report.energy is not None:
        console.print(line or f"energy: {micro(report.energy)}")
    return finish(options, console, figures, problems)


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Path]:
    parser = parser_of("vision", __doc__)
    parser.add_argument("--crops", type=int, default=100, help="that decide how much is pruned")
    parser.add_argument("--checked", type=int, default=3, help="of these, by the golden model")
    parser.add_argument("--on-chip", type=int, default=1, help="of these, pruned, on the RTL")
    parser.add_argument("--whole", type=int, default=0, help="of these, not pruned, on the RTL")
    parser.add_argument("--zeros", type=float, help="share pruned; default: as many as possible")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", shares=["zeros"])
        if not 1 <= options.on_chip <= options.checked <= options.crops:
            raise ValueError(
                f"--on-chip {options.on_chip} --checked {options.checked} --crops {options.crops}: "
                "expected 1 or more, and each at most the next one"
            )
        if not 0 <= options.whole <= options.checked:
            raise ValueError(
                f"--whole {options.whole}: expected 0 to {options.checked} (--checked)"
            )
        path = find_file(PACKAGE, FILE, PROJECT)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options, path


def _print(console: Console, figures: dict[str, Any]) -> None:
    table = Table(title="Crops of text", title_justify="left", box=SIMPLE)
    for name in ("", "zeros", "same class", "accuracy"):
        table.add_column(name, justify="right")
    zeros = figures["zeros_of_pointwise_weights"]
    for name in figures["same_class"]:
        same, checked = figures["same_class"][name], figures["checked_by_golden_model"]
        accuracy = figures["accuracy"][name]
        table.add_row(name, f"{zeros[name]:.0%}", f"{same} of {checked}", f"{accuracy:.0%}")
    console.print(table)
    how = "" if figures["cycles_measured"] else " (estimated)"
    dense_how = "" if figures["dense_measured"] else " (estimated)"
    console.print(
        f"a crop: {figures['cycles']:,} cycles{how}; without zeros "
        f"{figures['dense_cycles']:,}{dense_how}, "
        f"{figures['dense_cycles'] / figures['cycles']:.2f}x as many"
    )


def _plot(path: Path, program: Model, dense: Model, figures: dict[str, Any]) -> None:
    """Draw the cycles of each layer, beside those without zeros, as far as they were counted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for one, label, offset in ((dense, "without zeros", -0.2), (program, "pruned", 0.2)):
        bars = list(one.cycles.values())
        axes.bar(np.arange(len(bars)) + offset, bars, 0.4, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    how = "" if figures["cycles_measured"] else " (estimated)"
    dense_how = "" if figures["dense_measured"] else " (estimated)"
    axes.set_title(
        f"Direction classifier, {figures['zeros_of_pointwise_weights']['pruned']:.0%} of pointwise "
        f"weights pruned\n{figures['cycles']:,} cycles a crop{how}, "
        f"{figures['dense_cycles'] / figures['cycles']:.2f}x fewer than without zeros{dense_how}"
    )
    axes.set_xlabel("layer")
    axes.set_ylabel("cycles")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
