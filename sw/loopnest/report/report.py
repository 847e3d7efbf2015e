"""The report of a run: cycles and counters, roofs and the bottleneck."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from loopnest_hw.config import LINE_BYTES, ChipConfig
from loopnest_hw.registers import STAGES
from loopnest_sim.memory import Memory
from loopnest_sim.roof import Work

from ..kernel.backends import Counters
from ..kernel.lower import Kernel
from ..lazy import lazy
from .bottleneck import Bottleneck, Run, expected_bottleneck, find_bottleneck
from .energy import DEFAULT_DRAM, run_energy
from .pes import added, cache_counts, pe_counts
from .plain import plain
from .plot import draw
from .run_energy import RunEnergy, largest
from .run_energy import added as added_energy
from .timeline import Timeline, make_timeline, per_pe
from .trace import events
from .work import golden_work, work_of

STATES = ("busy", "starved", "stalled")


@dataclass(frozen=True)
class RunReport:
    """One run, of one kernel or of several; what a backend does not count is None.

    Attributes
    ----------
    statement, order : str
        What was computed, and the loops; those of several kernels with commas between.
    cycles : int or None
        From the start register to the end of the last write.
    multiplies : int
        Lanes with all their factors present.
    leaf_steps : int
        Steps of the leaf row.
    bytes_read, bytes_written : int or None
        Lines of the memory port, times their size.
    passes, evictions : int or None
        Further passes of result fibers, and evicted accumulator slots.
    stalls : mapping of str to (mapping of str to int)
        For each stage, the cycles in which it was busy, starved or stalled; of several PEs, the
        average over those that run the nest.
    cache : mapping of str to int, or None
        The requests of a chip of several PEs to its cache (`pes.cache_counts`): ``requests``,
        ``hits``, ``misses``, ``joined``, ``merged``; the cycles in which PEs and dispatcher had a
        request that waited for its bank, ``waits``, and those of them in which the bank took
        another line's, ``conflicts``.
    pes : tuple of mappings of str to int, or None
        Of each of several PEs the cycles in which its leaf stage was busy, starved and stalled
        (``leaf_busy``, ...), and ``last_step``, the cycles from the start to the end of its last
        step; of several kernels the sums.
    stored : tuple of str
        The dense operands that were stored without their zeros, ``"W: 80 % zeros, stored
        dense,compressed"``, the indices of which coordinates were left out, and the operands whose
        heavy rows were divided.
    starts : tuple of str
        Of a program why it has further starts, besides what the host does between two.
    """

    statement: str
    order: str
    cycles: int | None
    multiplies: int
    leaf_steps: int
    bytes_read: int | None
    bytes_written: int | None
    passes: int | None
    evictions: int | None
    stalls: Mapping[str, Mapping[str, int]]
    cache: Mapping[str, int] | None
    pes: tuple[Mapping[str, int], ...] | None
    stored: tuple[str, ...]
    _runs: tuple[Run, ...] = field(repr=False)
    _layers: Mapping[str, "RunReport"] = field(default_factory=dict, repr=False)
    starts: tuple[str, ...] = ()

    @property
    def _kernels(self) -> tuple[Kernel, ...]:
        return tuple(run.kernel for run in self._runs)

    @property
    def counters(self) -> tuple[Mapping[str, int], ...]:
        """The chip's counters of each kernel, those that are known."""
        return tuple(run.counters.values for run in self._runs)

    @lazy
    def work(self) -> tuple[Work, ...]:
        """The work of each kernel, from its counters (`work.work_of`)."""
        return tuple(work_of(run) for run in self._runs)

    def golden_work(self) -> tuple[Work, ...]:
        """Return the work of each kernel in one pass, from its tensors alone: the golden model runs
        the kernels once more.
        """
        return tuple(golden_work(run) for run in self._runs)

    @property
    def roof(self) -> float:
        """Minimum cycles for the multipliers and the memory bandwidth, with each byte of operands
        and result moved once.
        """
        return sum(
            work.roof(run.config, read_rate=run.rate, write_rate=run.rate)
            for work, run in zip(self.work, self._runs, strict=True)
        )

    @property
    def roof_share(self) -> float | None:
        """``roof / cycles``."""
        return self.roof / self.cycles if self.cycles else None

    @property
    def pe_roof(self) -> int:
        """Minimum cycles of the PEs, at one step per cycle each, and one line read and one written
        per cycle at each memory port. Steps and lines of further passes count.
        """
        return self._pe_roof(self.work)

    def golden_pe_roof(self) -> int:
        """Return the PE roof in one pass, from the tensors alone (`golden_work`)."""
        return self._pe_roof(self.golden_work())

    def _pe_roof(self, work: Sequence[Work]) -> int:
        return sum(w.pe_roof(run.config) for w, run in zip(work, self._runs, strict=True))

    @property
    def pe_roof_share(self) -> float | None:
        """``pe_roof / cycles``."""
        return self.pe_roof / self.cycles if self.cycles else None

    @property
    def expected_cycles(self) -> int:
        """Cycles by the estimate that chose the loops, with any backend."""
        return round(sum(run.kernel.plan.cycles for run in self._runs))

    @lazy
    def bottleneck(self) -> Bottleneck | None:
        """The bottleneck by the run's counters; None without cycles."""
        return find_bottleneck(self._runs)

    @lazy
    def expected_bottleneck(self) -> Bottleneck:
        """The bottleneck by the estimate."""
        return expected_bottleneck(self._runs)

    @lazy
    def energy(self) -> RunEnergy | None:
        """The energy of the chip and of its memory, HBM2, that of a program by its layers; None
        without cycles.
        """
        return self.energy_with(DEFAULT_DRAM)

    def energy_with(self, dram: str | float) -> RunEnergy | None:
        """Return the energy with another memory: a name of `energy.DRAM`, or its pJ a bit.

        Raises
        ------
        ValueError
            For an unknown one.
        """
        if not self._layers:
            return run_energy(self._runs, dram)
        found = {name: layer.energy_with(dram) for name, layer in self._layers.items()}
        layers = {name: energy for name, energy in found.items() if energy is not None}
        return added_energy(layers) if len(layers) == len(found) else None

    @lazy
    def timelines(self) -> tuple[Timeline, ...]:
        """The counters of each kernel over the course of its run; empty without cycles."""
        found = [make_timeline(run.counters, run.pes) for run in self._runs]
        return tuple(timeline for timeline in found if timeline is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name, as ``json`` can write them.

        Measured and expected figures have different names: ``cycles`` is None if nothing was
        counted, whatever ``expected_cycles`` is.
        """
        own = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        derived = ("roof", "roof_share", "pe_roof", "pe_roof_share", "expected_cycles")
        found = own | {name: getattr(self, name) for name in derived}
        found["bottleneck"] = None if self.bottleneck is None else self.bottleneck.to_dict()
        found["expected_bottleneck"] = self.expected_bottleneck.to_dict()
        found["energy"] = None if self.energy is None else self.energy.to_dict()
        found["kernels"] = [
            {
                "statement": str(run.kernel.plan.statement),
                "order": "".join(run.kernel.plan.loops),
                "begin": run.counters.begin,
                "cycles": run.counters.values.get("cycles"),
                "expected_cycles": round(run.kernel.plan.cycles),
                "energy": None if (energy := run_energy([run])) is None else energy.total,
            }
            for run in self._runs
        ]
        return plain(found)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def plot(self, path: str | Path | None = None) -> Any:
        """Plot the stages' utilisation over time, the run in its roofline, and its energy by part.

        Parameters
        ----------
        path : path, optional
            File of the plot; its suffix selects the format, such as ``.png`` or ``.svg``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If no cycles were counted (the golden model counts none), or for an unknown format of
            picture.
        """
        if self.energy is None:
            raise ValueError("no cycles were counted: expected a run with backend='rtl'")
        return draw(self.statement, self._runs, self.work, self.energy, path)

    def trace(self, path: str | Path) -> None:
        """Write the run as a trace for Perfetto (https://ui.perfetto.dev) or ``chrome://tracing``.

        One cycle is one nanosecond, as in the waves. Kernels are slices; the stages' utilisation
        and the memory's traffic are counters.

        Raises
        ------
        ValueError
            If no cycles were counted (the golden model counts none).
        """
        found = {"traceEvents": events(self.statement, self._runs), "displayTimeUnit": "ns"}
        Path(path).write_text(json.dumps(found, allow_nan=False) + "\n", encoding="utf-8")

    def __rich__(self) -> Group:
        return Group(self._table(), Text(self._limit()))

    def __str__(self) -> str:
        console = Console(width=100, highlight=False, force_terminal=False, no_color=True)
        with console.capture() as capture:
            console.print(self._table())
        lines = [line.rstrip() for line in capture.get().rstrip().split("\n")]
        return "\n".join([*lines, self._limit()])

    def _limit(self) -> str:
        """Return the bottleneck's line."""
        if self.bottleneck is not None:
            return f"bottleneck: {self.bottleneck.text}"
        return f"expected bottleneck: {self.expected_bottleneck.text}"

    def _table(self) -> Table:
        title = Text(f"{self.statement}   order {self.order or '-'}")
        table = Table(title=title, title_justify="left", show_header=False, min_width=60)
        table.add_column()
        table.add_column(justify="right")
        rows: list[tuple[str, float | None, float | None]] = [
            ("cycles", self.cycles, None),
            ("cycles, expected", self.expected_cycles if self.cycles is None else None, None),
            ("multiplies", self.multiplies, None),
            ("leaf steps", self.leaf_steps, None),
            ("bytes read", self.bytes_read, None),
            ("bytes written", self.bytes_written, None),
            ("roof", self.roof, self.roof_share),
            ("PE roof", self.pe_roof, self.pe_roof_share),
            ("further passes", self.passes, None),
        ]
        for name, value, share in rows:
            if value is not None:
                text = f"{value:,.0f}" + ("" if share is None else f"  ({share:.0%})")
                table.add_row(name, text)
        for stage, states in self.stalls.items():
            text = ", ".join(f"{states[state]:,} {state}" for state in STATES)
            table.add_row(f"{stage} stage", text)
        for name, text in self._of_pes():
            table.add_row(name, text)
        if self.energy is not None:
            table.add_row("energy", self.energy.text)
            table.add_row("of which", largest(self.energy.parts))
            if len(self.energy.layers) > 1:
                totals = {name: layer.total for name, layer in self.energy.layers.items()}
                table.add_row("largest layers", largest(totals))
        for note in self.stored:
            table.add_row(*note.split(": ", 1))
        for why in self.starts:
            table.add_row("another start", why)
        return table

    def _of_pes(self) -> Iterator[tuple[str, str]]:
        """Yield the table's rows of a chip of several PEs."""
        if self.cache is not None:
            counts = {name: f"{count:,}" for name, count in self.cache.items()}
            yield "cache", "{requests} requests, {hits} hits, {misses} misses".format(**counts)
            yield "cache's banks", "{waits} waits, {conflicts} for conflicts".format(**counts)
        if self.pes is not None and any(run.pes > 1 for run in self._runs):
            for name in ("leaf_busy", "last_step"):
                yield f"PEs, {name.replace('_', ' ')}", _range([pe[name] for pe in self.pes])


def _range(counts: Sequence[int]) -> str:
    """Return the least and the largest of the PEs' counts."""
    least, most = min(counts), max(counts)
    if least == most:
        return f"{most:,} each"
    return f"{least:,} (PE {counts.index(least)}) to {most:,} (PE {counts.index(most)})"


def make_report(
    config: ChipConfig, memory: Memory, kernel: Kernel, counters: Counters
) -> RunReport:
    """Return the report of a finished kernel."""
    run = Run(config, memory, kernel, counters)
    counted = per_pe(counters.values, run.pes)

    def in_bytes(name: str) -> int | None:
        return counted[name] * LINE_BYTES if name in counted else None

    return RunReport(
        statement=str(kernel.plan.statement),
        order="".join(kernel.plan.loops),
        cycles=counted.get("cycles"),
        multiplies=counted["multiplies"],
        leaf_steps=counted["leaf_steps"],
        bytes_read=in_bytes("lines_read"),
        bytes_written=in_bytes("lines_written"),
        passes=counted.get("passes"),
        evictions=counted.get("evictions"),
        stalls={
            stage: {state: counted[f"{stage}_{state}"] for state in STATES}
            for stage in STAGES
            if f"{stage}_busy" in counted
        },
        cache=cache_counts(counted),
        pes=pe_counts(counted, config.pes),
        stored=kernel.plan.stored,
        _runs=(run,),
    )


def combine(statement: str, reports: Sequence[RunReport]) -> RunReport:
    """Return the report of a statement's kernels, which ran one after the other."""

    def each(name: str) -> list[Any] | None:
        values = [getattr(report, name) for report in reports]
        return None if None in values else values

    def total(name: str) -> int | None:
        values = each(name)
        return None if values is None else sum(values)

    first = reports[0]
    caches, pes = each("cache"), each("pes")
    return replace(
        first,
        statement=statement,
        order=",".join(report.order for report in reports),
        cycles=total("cycles"),
        multiplies=sum(report.multiplies for report in reports),
        leaf_steps=sum(report.leaf_steps for report in reports),
        bytes_read=total("bytes_read"),
        bytes_written=total("bytes_written"),
        passes=total("passes"),
        evictions=total("evictions"),
        stalls={
            stage: {state: sum(report.stalls[stage][state] for report in reports) for state in of}
            for stage, of in first.stalls.items()
        },
        cache=None if caches is None else added(caches),
        pes=None if pes is None else tuple(added(counts) for counts in zip(*pes, strict=True)),
        stored=tuple(dict.fromkeys(note for report in reports for note in report.stored)),
        _layers={},
        _runs=tuple(run for report in reports for run in report._runs),
    )


def combine_layers(
    text: str, layers: Mapping[str, RunReport], starts: Sequence[str] = ()
) -> RunReport:
    """Return the report of a program, given those of its statements, by their names, and why it has
    further starts.
    """
    whole = combine(text, list(layers.values()))
    return replace(whole, _layers=dict(layers), starts=tuple(starts))
