"""Runs all benches in Verilator with line coverage, and lists the lines that none of them executed.

``python -m tb.coverage`` (``make coverage``) ends with code 1 if a bench fails, a unit stays below
95 %, or a waiver (waivers.toml) does not apply.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loopnest_hw.program import program
from tb.coverage.points import read_points
from tb.coverage.report import TARGET, UnitCoverage, read_waivers, summarize

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "build" / "coverage"
WAIVERS = Path(__file__).with_name("waivers.toml")

BENCHES = "verilator or whole_chip"
"""pytest's expression for the benches that run in Verilator (including the chip's, for
coverage).
"""


def run_benches(jobs: int) -> int:
    """Run the benches, with their coverage in `FOLDER`; return pytest's exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "tb", "-k", BENCHES),
        *("--ignore", "tb/test_harness.py"),
    ]
    environment = os.environ | {"LOOPNEST_COVERAGE": str(FOLDER)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def table_of(units: Sequence[UnitCoverage]) -> Table:
    """Return the figures of all units."""
    table = Table("unit", *("lines", "waived", "covered", "share"), title="Line coverage")
    for column in table.columns[1:]:
        column.justify = "right"
    total = UnitCoverage("all")
    for unit in units:
        table.add_row(*row_of(unit))
        total.lines += unit.lines
        total.covered += unit.covered
        total.waived += unit.waived
    table.add_section()
    table.add_row(*row_of(total))
    return table


def row_of(unit: UnitCoverage) -> tuple[str, ...]:
    """Return a unit's figures as text."""
    numbers = (unit.lines, unit.waived, unit.covered)
    return unit.name, *(f"{n:,}" for n in numbers), f"{unit.share:.1%}"


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tb.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="benches at once (2)")
    parser.add_argument("--report", action="store_true", help="only report on the last run")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: expected 1 or more")
    code = 0 if options.report else run_benches(options.jobs)
    units, stale = summarize(read_points(FOLDER), read_waivers(WAIVERS))
    console = Console()
    for unit in units:
        for kind, line in unit.missed:
            shown = f"{line.source}  {line.label}  [{kind}]"
            console.print(shown, highlight=False, markup=False, soft_wrap=True)
    console.print(table_of(units))
    for message in stale:
        console.print(message, style="red", markup=False)
    low = [unit.name for unit in units if unit.share < TARGET]
    if low:
        console.print(f"below {TARGET:.0%}: {', '.join(low)}", style="red")
    return int(bool(code or stale or low or not units))


if __name__ == "__main__":
    sys.exit(main())
