"""Energy of a PE by unit and by event: ``make power LIBERTY=cells.lib``.

Workloads run on the simulated chip; the values of the registers in a window of each run are
replayed through the PE, mapped as by ``make timing``. It prints and writes what each part of the PE
takes; with ``--fit``, also the energy of each event, which reports of runs use.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest_hw.config import PRESETS, NumberFormat, parse_overrides
from loopnest_hw.power.mapping import Mapped, map_design
from loopnest_hw.power.memories import load_sram
from loopnest_hw.power.parts import PARTS
from loopnest_hw.power.replay import WORD_BITS
from loopnest_hw.program import program
from loopnest_hw.timing import DEFAULT_LIBERTY, TARGET_PERIOD_NS, read_liberty
from loopnest_hw.yosys import find_yosys, run

from ..report import energy
from .fit import error, fit
from .measure import PIECE_WORDS, Measured, measure
from .record import TOP, Recorder, Settings
from .units import unit_table
from .workloads import IDLE, WORKLOADS, find

FIGURES = Path(energy.__file__).with_name("energy.json")

TABLE_WIDTH = 140

WINDOW = 2048
"""Cycles of a window."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parse(arguments)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    try:
        settings = Settings(options.preset, options.dtype, parse_overrides(options.set))
        config = settings.config
        if config.pes > 1:
            raise ValueError(f"preset {options.preset!r}: expected one PE; figures are of each")
        names = options.workloads or [IDLE, *(workload.name for workload in WORKLOADS)]
        for name in names:
            if name != IDLE:
                find(name)
        liberty = read_liberty(options.liberty)
        options.output.mkdir(parents=True, exist_ok=True)
        recorder = Recorder(settings, options.output)
        mapped = map_design(recorder.pe_verilog, TOP, liberty, options.output / "mapped")
        windows = []
        for name in names:
            window = measure(recorder.record(name, options.cycles), mapped, options.period)
            windows.append(window)
            rate = window.total * 1e12 / window.cycles
            note = f"{window.wrong:.4%} of the registers' values wrong"
            console.print(f"{name}: {window.cycles:,} cycles, {rate:.1f} pJ a cycle; {note}")
    except (RuntimeError, ValueError, OSError) as failure:
        print(f"power: {failure}", file=sys.stderr)
        return 1
    found = _figures(options, settings, mapped)
    found["windows"] = [window.to_dict() for window in windows]
    console.print(_table(windows, per_multiply=False), _table(windows, per_multiply=True))
    if options.units:
        for window in windows:
            if window.multiplies:
                console.print(unit_table(window.name, window.units, window.multiplies))
    if options.fit:
        found |= _fit(console, windows)
        if options.publish:
            publish(found, FIGURES)
    file = options.output.with_suffix(".json")
    file.write_text(json.dumps(found, indent=1) + "\n")
    console.print(f"{file}")
    return 0


def _figures(options: argparse.Namespace, settings: Settings, mapped: Mapped) -> dict[str, Any]:
    """Return what was measured, and with what."""
    library = mapped.library
    yosys = run([find_yosys(), "--version"], Path.cwd()).split("(")[0].strip()
    return {
        "preset": settings.preset,
        "dtype": settings.dtype,
        "configuration": asdict(settings.config) | {"dtype": settings.dtype},
        "library": library.name,
        "voltage": library.voltage,
        "period_ns": options.period,
        "versions": {"yosys": yosys, "numpy": np.__version__},
        "sources": [
            f"logic: {library.name}, {library.voltage} V, registers of runs replayed through the "
            f"mapped PE ({yosys}); not placed, without glitches and clock tree",
            f"SRAM: {load_sram().source}",
        ],
    }


def _table(windows: Sequence[Measured], *, per_multiply: bool) -> Table:
    """Return the table of energies by part."""
    of = "multiply" if per_multiply else "cycle"
    table = Table(title=f"pJ a {of}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for part in (*PARTS, "total"):
        table.add_column(part, justify="right", no_wrap=True)
    for window in windows:
        count = window.multiplies if per_multiply else window.cycles
        if count:
            parts = [float(window.parts[part].sum()) for part in PARTS]
            values = [energy * 1e12 / count for energy in (*parts, window.total)]
            table.add_row(window.name, *(f"{value:.1f}" for value in values))
    return table


def publish(found: Mapping[str, Any], file: Path) -> None:
    """Put a chip's energies into the file that reports read, in place of those of its preset."""
    chips = json.loads(file.read_text())["chips"]
    key = found["preset"], found["dtype"]
    chips = [chip for chip in chips if (chip["preset"], chip["dtype"]) != key]
    chips.append({name: value for name, value in found.items() if name != "windows"})
    file.write_text(json.dumps({"chips": chips}, indent=1) + "\n")


def _fit(console: Console, windows: Sequence[Measured]) -> dict[str, Any]:
    """Fit the events' energies; print the error of each window, and return both.

    An idle chip's PE is in reset, as it is in no cycle of a run.
    """
    fitted = {workload.name for workload in WORKLOADS if workload.fitted}
    energies = fit([window for window in windows if window.name in fitted])
    errors = {w.name: round(error(energies, w), 4) for w in windows if w.name != IDLE}
    for name, share in errors.items():
        console.print(f"{name}: {share:+.1%} ({'fitted' if name in fitted else 'check'})")
    fits = {name: share for name, share in errors.items() if name in fitted}
    checks = {name: share for name, share in errors.items() if name not in fitted}
    return {"energies": energies, "errors_of_fit": fits, "errors_of_checks": checks}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loopnest.power", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="single")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="bf16")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER", help="override a parameter"
    )
    parser.add_argument("--liberty", type=Path, default=DEFAULT_LIBERTY)
    parser.add_argument("--output", type=Path, default=Path("build/power"), help="folder")
    parser.add_argument("--cycles", type=int, default=WINDOW, help="of each window")
    parser.add_argument("--period", type=float, default=TARGET_PERIOD_NS, help="of the clock, ns")
    parser.add_argument("--units", action="store_true", help="print what each unit takes")
    parser.add_argument("--fit", action="store_true", help="fit the energy of each event")
    parser.add_argument(
        "--publish",
        action="store_true",
        help=f"with --fit, put them into {FIGURES.name} of reports",
    )
    parser.add_argument("workloads", nargs="*", help=f"{IDLE!r} and others by name; default all")
    options = parser.parse_args(arguments)
    if options.fit and options.workloads:
        parser.error("--fit: expected all workloads")
    if options.publish and not options.fit:
        parser.error("--publish: expected --fit")
    piece = PIECE_WORDS * WORD_BITS
    if options.cycles < piece or options.period <= 0:
        parser.error(f"expected at least {piece} cycles, and a period above 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
