"""What examples report: the figures of a program, its layers as a table and as a plot."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest import Program, RunReport

from ..report.run_energy import RunEnergy, digits
from .dense import DenseLayer, dense_energy
from .options import files_of, memory_of


def program_figures(options: argparse.Namespace, report: RunReport) -> dict[str, Any]:
    """Return the settings and the totals of a run; what a backend does not count is None."""
    counted = report.cycles is not None
    memory = memory_of(options)
    return {
        "backend": options.backend,
        "preset": options.preset,
        "memory": {"latency": memory.latency, "bytes_per_cycle": memory.bytes_per_cycle},
        "multiplies": report.multiplies,
        "cycles": report.cycles,
        "roof_share": report.roof_share if counted else None,
        "pe_roof_share": report.pe_roof_share if counted else None,
        "energy": None if report.energy is None else report.energy.to_dict(),
    }


def print_layers(
    console: Console,
    program: Program,
    report: RunReport,
    dense: Sequence[DenseLayer] | None = None,
) -> None:
    """Print each layer's work and its energy, and those of all, beside those without zeros."""
    title = "Layer by layer (shares: of the cycles)"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    names = ["layer", "multiplies", "cycles", "roof", "PE roof", "energy"]
    others: list[tuple[str, ...]] = [()] * (len(program.layers) + 1)
    if dense is not None:
        names += ["dense cycles", "dense energy"]
        whole = dense_energy(program.layers, dense)
        rows = [(layer.cycles, layer.energy) for layer in dense]
        rows.append((sum(layer.cycles for layer in dense), whole))
        others = [(f"{cycles:,.0f}", micro(energy)) for cycles, energy in rows]
    for name in names:
        table.add_column(name, justify="right")

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.0%}"

    for (name, layer), more in zip([*program.layers.items(), ("all", report)], others, strict=True):
        table.add_row(
            name,
            f"{layer.multiplies:,}",
            "-" if layer.cycles is None else f"{layer.cycles:,}",
            share(layer.roof_share),
            share(layer.pe_roof_share),
            micro(layer.energy),
            *more,
        )
    console.print(table)


def micro(energy: RunEnergy | None) -> str:
    """Return an energy in uJ."""
    return "-" if energy is None else f"{digits(energy.total * 1e6)} uJ"


def finish(
    options: argparse.Namespace,
    console: Console,
    figures: Mapping[str, Any],
    problems: Sequence[str],
) -> int:
    """Write the report, print what is wrong, and return the exit code."""
    json_path, plot_path = files_of(options)
    json_path.write_text(json.dumps({**figures, "problems": list(problems)}, indent=2) + "\n")
    console.print(f"report: {json_path}   plot: {plot_path}")
    for problem in problems:
        console.print(f"[red]wrong: {problem}[/red]")
    return 1 if problems else 0


def plot_layers(
    options: argparse.Namespace,
    title: str,
    program: Program,
    report: RunReport,
    dense: Sequence[DenseLayer] | None,
    *,
    others: Mapping[str, Sequence[float]] | None = None,
    parts: Mapping[str, str] | None = None,
    measured: bool = False,
) -> None:
    """Draw each layer's cycles, or its multiplies where none are counted, beside those of the
    dense layer.

    Parameters
    ----------
    dense : sequence of DenseLayer or None
        Each layer without zeros.
    others : mapping of str to sequence of float, optional
        The cycles of each layer in other runs, by their labels.
    parts : mapping of str to str, optional
        The names of what the layers are drawn as, those of one name together.
    measured : bool
        Whether the dense cycles are.
    """
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot
    from matplotlib.ticker import StrMethodFormatter

    unit = "multiplies" if report.cycles is None else "cycles"
    parts = parts or {name: name for name in program.layers}

    def summed(of_layers: Iterable[float]) -> list[float]:
        sums = dict.fromkeys(parts.values(), 0.0)
        for name, number in zip(program.layers, of_layers, strict=True):
            sums[parts[name]] += number
        return list(sums.values())

    layers = summed(getattr(layer, unit) for layer in program.layers.values())
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    at = np.arange(len(layers))
    bars: dict[str, Sequence[float]] = {"sparse": layers}
    if dense is not None and report.cycles and report.pe_roof_share is not None:
        label = "dense" if measured else "dense (estimated)"
        more = {name: summed(own) for name, own in (others or {}).items()}
        cycles = summed(layer.cycles for layer in dense)
        bars = {label: cycles, **more, **bars}
        fewer = sum(cycles) / report.cycles
        title += (
            f"\n{report.cycles:,} cycles, {report.pe_roof_share:.0%} of the PE's roof; "
            f"{fewer:,.{0 if fewer >= 10 else 1}f}x fewer than dense"
        )
    width = 0.8 / len(bars)
    for n, (label, heights) in enumerate(bars.items()):
        drawn = axes.bar(at + (n - (len(bars) - 1) / 2) * width, heights, width, label=label)
        axes.bar_label(drawn, [f"{height:,.0f}" for height in heights], fontsize=8)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xticks(at, list(dict.fromkeys(parts.values())))
    axes.set_title(title)
    axes.set_xlabel("layer")
    axes.set_ylabel(unit)
    figure.legend(loc="outside lower right", ncols=len(bars))
    figure.savefig(files_of(options)[1], dpi=150)
    pyplot.close(figure)
