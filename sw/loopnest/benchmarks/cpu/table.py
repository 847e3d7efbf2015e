"""The comparison as tables and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from .compared import Compared, kernel_means, means
from .problems import KERNELS

WIDTH = 110
"""Columns of the tables, at least, where the output is no terminal."""


def print_tables(console: Console, title: str, rows: Sequence[Compared]) -> None:
    """Print the times, the energies and the geometric means."""
    rows = sorted(rows, key=lambda row: KERNELS.index(row.measured.kernel))
    console.print(_times(f"Time: {title}", rows))
    console.print(_energies("Energy, joules of a run: CPU by its cores and by its package", rows))
    console.print(_means("Geometric means: times better than the CPU", rows))


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _times(title: str, rows: Sequence[Compared]) -> Table:
    figures = ("chip, us", "1 thread, us", "by", "all, us", "by", "faster")
    table = _table(title, ("kernel", "of"), figures)
    for row in rows:
        one, every = row.one, row.all
        table.add_row(
            *(row.measured.kernel, row.measured.data),
            "-" if row.seconds is None else micro(row.seconds),
            *(micro(one.seconds), one.library, micro(every.seconds), every.library),
            times(row.ratios().get("time_ratio")) if row.right else "WRONG",
        )
    return table


def _energies(title: str, rows: Sequence[Compared]) -> Table:
    figures = ("chip, uJ", "CPU, uJ", "less energy", "less energy x delay", "ceiling")
    table = _table(title, ("kernel", "of"), figures)
    for row in rows:
        low, high = row.joules
        table.add_row(
            *(row.measured.kernel, row.measured.data),
            "-" if row.energy is None else micro(row.energy.total),
            f"{micro(low)} - {micro(high)}",
            *(span(row.ratios(), name) for name in ("energy_ratio", "edp_ratio", "ceiling")),
        )
    return table


def _means(title: str, rows: Sequence[Compared]) -> Table:
    figures = ("faster", "than all threads", "less energy", "less energy x delay", "ceiling")
    table = _table(title, ("kernel",), figures)
    for name, found in [*kernel_means(rows).items(), ("all", means(rows))]:
        table.add_row(
            name,
            *(times(found[ratio]) for ratio in ("time_ratio", "all_threads_time_ratio")),
            *(span(found, ratio) for ratio in ("energy_ratio", "edp_ratio", "ceiling")),
        )
    return table


def micro(value: float) -> str:
    """Return a number times a million, in three digits."""
    value *= 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float | None) -> str:
    """Return a ratio in three digits."""
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def span(ratios: Mapping[str, float | None], name: str) -> str:
    """Return a ratio by the CPU's cores and by its package."""
    low, high = (ratios.get(f"{name}_{end}") for end in ("low", "high"))
    return "-" if low is None else f"{times(low)} - {times(high)}"


def plot(path: Path, title: str, rows: Sequence[Compared]) -> None:
    """Draw the ratios of all rows that have them, by kernel, and their geometric means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kernels = list(kernel_means(rows))
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    for axes, name, ends in (
        (panels[0], "time", {"time_ratio": "one thread"}),
        (
            panels[1],
            "energy",
            {"energy_ratio_low": "the CPU's cores", "energy_ratio_high": "its package"},
        ),
    ):
        for ratio, label in ends.items():
            points = [
                (kernels.index(row.measured.kernel), row.ratios()[ratio])
                for row in rows
                if row.ratios()
            ]
            drawn = axes.scatter(*zip(*points, strict=True), s=14, label=label) if points else None
            for at, kernel in enumerate(kernels):
                mean = kernel_means(rows)[kernel][ratio]
                if drawn is not None and mean is not None:
                    colour = drawn.get_facecolor()[0]
                    axes.hlines(mean, at - 0.3, at + 0.3, color=colour)
                    axes.annotate(times(mean), (at + 0.32, mean), fontsize=8, va="center")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_yscale("log")
        axes.margins(x=0.12, y=0.15)
        axes.set_xticks(range(len(kernels)), kernels, rotation=30)
        axes.set_title(f"{name}: times better than the CPU")
        if axes.collections:
            axes.legend(loc="lower right", fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
