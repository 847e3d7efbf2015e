"""Plots of a run: the stages' states over time, the roofline, and the energy by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.registers import STAGES
from loopnest_sim.roof import Work

from .bottleneck import Run, find_bottleneck
from .run_energy import RunEnergy, digits
from .timeline import Timeline, make_timeline

WINDOWS = 200
"""Number of windows in a plot."""

SIZE = (13.3, 7.5)
"""Size of a plot in inches."""

COLOURS = {"busy": "#20639b", "stalled": "#ed8936", "starved": "#cbd5e0"}
"""A stage's states, from the axis upwards; the rest is idle."""

MIN_SHARE = 0.002
"""The least share of a part in the plot of the energy; smaller ones are drawn as one."""

READ, WRITTEN, MULTIPLIES, ROOF, TEXT = "#2a9d8f", "#c05299", "#20639b", "#2d3748", "#2d3748"

MAX_LABELS = 12
"""Maximum number of kernels that are numbered in a plot."""


@dataclass(frozen=True)
class Windows:
    """All kernels of a run, one after the other, in windows of equal length.

    ``edges``: the cycles at which windows begin, and the end. ``counts``: the increase of each
    counter in each window. ``kernels``: the cycles at which the kernels begin, and the end.
    """

    edges: NDArray[np.float64]
    counts: Mapping[str, NDArray[np.float64]]
    kernels: NDArray[np.int64]

    def rate(self, name: str) -> NDArray[np.float64]:
        """Return the counts per cycle of each window."""
        return self.counts[name] / np.diff(self.edges)


def windows(timelines: Sequence[Timeline], number: int = WINDOWS) -> Windows:
    """Return kernels' timelines in a number of windows, at most one per cycle; within a window of a
    timeline, counts are assumed to be evenly distributed.
    """
    lengths = np.array([timeline.ends[-1] for timeline in timelines], np.int64)
    kernels = np.concatenate([[0], np.cumsum(lengths)])
    edges = np.linspace(0, kernels[-1], min(number, int(kernels[-1])) + 1)
    pairs = zip(timelines, kernels, strict=False)
    ends = np.concatenate([[0], *(timeline.ends + begin for timeline, begin in pairs)])
    counts = {}
    for name in timelines[0].counts:
        total = np.cumsum(np.concatenate([[0], *(t.counts[name] for t in timelines)]))
        counts[name] = np.diff(np.interp(edges, ends, total))
    return Windows(edges, counts, kernels)


def check_picture(path: str | Path) -> None:
    """Check that a file's suffix is that of a format that matplotlib writes.

    Raises
    ------
    ValueError
        If it is not.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in known:
        raise ValueError(f"plot to {str(path)!r}: expected the suffix of one of {', '.join(known)}")


def draw(
    title: str,
    runs: Sequence[Run],
    works: Sequence[Work],
    energy: RunEnergy,
    path: str | Path | None,
) -> Any:
    """Plot kernels that ran one after the other, with their work and their energy; return
    matplotlib's figure.

    Raises
    ------
    ValueError
        If a kernel has no timeline, or matplotlib does not write the format.
    """
    from matplotlib import pyplot

    if path is not None:
        check_picture(path)
    found = [make_timeline(run.counters, run.pes) for run in runs]
    timelines = [timeline for timeline in found if timeline is not None]
    if len(timelines) < len(runs):
        raise ValueError("no cycles were counted: expected a run with backend='rtl'")
    with pyplot.ioff():
        figure = pyplot.figure(figsize=SIZE, layout="constrained")
    pyplot.close(figure)  # remove it from pyplot: it belongs to the caller
    limit = find_bottleneck(runs)
    cycles = sum(run.counters.values["cycles"] for run in runs)
    figure.suptitle(
        f"{title}\n", fontsize=16, fontweight="bold", x=0.01, ha="left", color=TEXT, wrap=True
    )
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1))
    _stages(left, windows(timelines))
    above, below = right.subfigures(2, 1, height_ratios=(1.7, 1))
    _roofline(above, runs, works)
    _energy(below, energy)
    subtitle = f"{cycles:,} cycles" + ("" if limit is None else f". Bottleneck: {limit.text}")
    figure.text(0.01, 0.925, subtitle, fontsize=10.5, color=TEXT)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _stages(figure: Any, run: Windows) -> None:
    """Plot each stage's states over time, and below them multiplies and memory traffic."""
    rows = len(STAGES) + 2
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=[1] * len(STAGES) + [1.3, 1.3])
    for axis, stage in zip(axes, STAGES, strict=False):
        below = np.zeros(len(run.edges) - 1)
        for state, colour in COLOURS.items():
            share = run.rate(f"{stage}_{state}")
            axis.stairs(
                below + share, run.edges, baseline=below, fill=True, color=colour, label=state
            )
            below = below + share
        busy = run.counts[f"{stage}_busy"].sum() / run.edges[-1]
        axis.set_ylim(0, 1)
        axis.set_yticks([])
        label = f"{stage}\n{busy:.0%} busy".replace("%", " %")
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    axes[0].legend(
        *_reversed(axes[0]), loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False
    )
    _lines(axes[-2], run, {"": ("multiplies", 1, MULTIPLIES)}, "multiplies\na cycle")
    memory = {
        "read": ("lines_read", LINE_BYTES, READ),
        "written": ("lines_written", LINE_BYTES, WRITTEN),
    }
    _lines(axes[-1], run, memory, "memory,\nbytes a cycle")
    axes[-1].legend(loc="lower right", bbox_to_anchor=(1, 0.9), ncols=2, frameon=False, fontsize=10)
    axes[-1].set_xlabel("cycles", fontsize=11)
    axes[-1].xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes[-1].set_xlim(0, run.edges[-1])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        for begin in run.kernels[1:-1]:
            axis.axvline(begin, color=TEXT, linewidth=0.8, linestyle=":")
    if 2 < len(run.kernels) <= MAX_LABELS + 1:
        for n, begin in enumerate(run.kernels[:-1]):
            text = f"kernel {n + 1}" if n == 0 else str(n + 1)
            axes[0].text(begin, 1.05, f" {text}", fontsize=10, color=TEXT)


def _reversed(axis: Any) -> tuple[list[Any], list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def _lines(axis: Any, run: Windows, series: Mapping[str, tuple[str, int, str]], label: str) -> None:
    """Plot rates over time."""
    for name, (counter, factor, colour) in series.items():
        rate = factor * run.rate(counter)
        axis.stairs(rate, run.edges, color=colour, linewidth=1.4, label=name, baseline=None)
    axis.set_ylim(bottom=0)
    axis.margins(y=0.25)
    axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)


def _roofline(figure: Any, runs: Sequence[Run], works: Sequence[Work]) -> None:
    """Plot the roofline of multipliers and memory, and the kernels."""
    axis = figure.subplots()
    config, rate = runs[0].config, runs[0].rate
    pairs = enumerate(zip(runs, works, strict=True))
    points = [point for n, (run, work) in pairs if (point := _point(n + 1, run, work)) is not None]
    speed = config.pes * config.multipliers
    ridge = speed / rate
    x = np.array([ridge, *(p.least for p in points), *(p.moved for p in points)])
    y = np.array([speed, *(p.speed for p in points)])
    limits = x.min() / 8, x.max() * 8
    line = np.array([limits[0], ridge, limits[1]])
    roof = np.minimum(speed, line * rate)
    bottom, top = min(y.min() / 6, roof[0]), speed * 3
    axis.loglog(line, roof, color=ROOF, linewidth=2.2)
    axis.fill_between(line, bottom, roof, color="#edf2f7")
    label = f"{speed} multiplies a cycle"
    axis.text(limits[1], speed * 1.1, label, ha="right", va="bottom", fontsize=11)
    middle = np.sqrt(line[0] * ridge)
    label = f"{rate:g} bytes\na cycle "
    axis.text(middle, middle * rate, label, ha="right", va="bottom", fontsize=11)
    style = {"markersize": 13, "color": COLOURS["busy"], "linestyle": "none", "marker": "o"}
    for p in points:
        once, lines = (
            ("by each byte once", "by the lines moved") if p is points[0] else (None, None)
        )
        axis.plot([p.least, p.moved], [p.speed] * 2, color=COLOURS["busy"], linewidth=1)
        axis.plot(p.moved, p.speed, **style, markerfacecolor="w", label=lines)
        axis.plot(p.least, p.speed, **style, label=once)
        if len(runs) > 1:
            axis.annotate(
                str(p.number), (p.least, p.speed), color="w", fontsize=8, fontweight="bold",
                ha="center", va="center_baseline",
            )  # fmt: skip
    if len(points) <= MAX_LABELS:
        names = [f"kernel {p.number}: " if len(runs) > 1 else "" for p in points]
        roofs = [min(speed, p.least * rate) for p in points]
        texts = [
            f"{name}{p.speed:.3g} a cycle, {100 * p.speed / best:.3g} % of the roof"
            for name, p, best in zip(names, points, roofs, strict=True)
        ]
        axis.text(
            0.97, 0.03, "\n".join(texts), ha="right", va="bottom", fontsize=11,
            transform=axis.transAxes,
        )  # fmt: skip
    axis.set_xlim(*limits)
    axis.set_ylim(bottom, top)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(lambda v, _: f"{v:,.10g}")
    axis.set_xlabel("multiplies a byte (read or written, whichever is more)", fontsize=11)
    axis.set_ylabel("multiplies a cycle", fontsize=11)
    axis.set_title("Roofline", fontsize=12, loc="left", color=TEXT)
    if points:
        axis.legend(
            loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, frameon=False, fontsize=10,
            handletextpad=0.1, columnspacing=1, markerscale=0.7,
        )  # fmt: skip
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(which="major", color="#e2e8f0", linewidth=0.6)


def _energy(figure: Any, energy: RunEnergy) -> None:
    """Plot the energy of each part, the largest one first."""
    axis = figure.subplots()
    least = MIN_SHARE * energy.total
    parts = [item for item in energy.parts.items() if item[1] >= least]
    parts = sorted(parts, key=lambda item: -item[1])
    rest = energy.total - sum(joules for _, joules in parts)
    if rest > 0 and len(parts) < len(energy.parts):
        parts.append(("others", rest))
    heights = [joules * 1e6 for _, joules in parts]
    bars = axis.barh([name for name, _ in parts], heights, color=COLOURS["busy"])
    shares = [f" {digits(uj)} uJ, {uj / sum(heights):.1%}" for uj in heights]
    axis.bar_label(bars, [share.replace("%", " %") for share in shares], fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.35)
    axis.set_xticks([])
    axis.tick_params(left=False, labelsize=9)
    axis.set_title(f"Energy: {energy.text}", fontsize=12, loc="left", color=TEXT)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


@dataclass(frozen=True)
class _Point:
    """A kernel in the roofline: its number, its multiplies per cycle, and its multiplies per byte,
    by compulsory bytes and by bytes of the lines moved.
    """

    number: int
    speed: float
    least: float
    moved: float


def _point(number: int, run: Run, work: Work) -> _Point | None:
    """Return a kernel's point; None if it has no multiplies or no transfers."""
    counted = run.counters.values
    multiplies = work.useful_lanes
    lines = max(counted["lines_read"], counted["lines_written"])
    least = max(work.bytes_read, work.bytes_written)
    if not (multiplies and lines and least):
        return None
    moved = LINE_BYTES * lines
    return _Point(number, multiplies / counted["cycles"], multiplies / least, multiplies / moved)
