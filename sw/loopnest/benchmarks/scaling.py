"""Kernels on more and more PEs: ``python -m loopnest.benchmarks.scaling --matrices FOLDER``.

Chips that differ only in their number of PEs run the same kernels; cache and memory ports are those
of the preset. The roof is the chip's, so it shows where memory, not arithmetic, is the limit. The
program fails if a result differs from SciPy's.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest import Chip
from loopnest.progress import task
from loopnest_hw.config import parse_overrides
from loopnest_hw.program import program

from ..report.plot import check_picture
from .cases import Case, dense_case, matrix_cases
from .matrices import matrix_names
from .options import (
    add_chip_options,
    check_chip_options,
    check_names,
    check_outputs,
    chip_of,
    settings_of,
    title_of,
)
from .outcome import run_case, same

PES = (1, 2, 4, 8, 16)

DENSE = "dense"
"""Name of the dense product."""


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A kernel on so many PEs; ``bottleneck`` is the report's line."""

    name: str
    pes: int
    right: bool
    cycles: int
    roof: int
    bottleneck: str

    @property
    def share(self) -> float:
        """Of the chip's roof."""
        return self.roof / self.cycles


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every result is right."""
    options = _parse(arguments)
    runs: list[Scaled] = []
    with task("") as shown:
        for pes in options.pes:
            chip = chip_of(_with_pes(options, pes))
            for case in _cases(options, chip):
                shown.text = f"{case.name}, {_counted(pes)}"
                runs.append(_scaled(chip, case, pes))
                # an interrupted run has its figures so far
                _save(options, runs)
    console = Console()
    console.print(_table(options, runs))
    _plot(options, runs)
    wrong = sum(not run.right for run in runs)
    console.print(f"{len(runs)} runs, {wrong} wrong; {options.output}, {options.plot}")
    return int(wrong > 0)


def _cases(options: argparse.Namespace, chip: Chip) -> Iterator[Case]:
    names = options.names
    if not names or DENSE in names:
        yield dense_case(chip.config.multipliers * chip.config.pes)
    matrices = [name for name in names if name != DENSE]
    if options.matrices is not None and (matrices or not names):
        yield from matrix_cases(options.matrices, matrices)


def _scaled(chip: Chip, case: Case, pes: int) -> Scaled:
    result, _ = run_case(chip, case)
    report = chip.report
    assert report is not None and report.cycles is not None and report.bottleneck is not None
    return Scaled(
        name=case.name,
        pes=pes,
        right=same(result, case.expected()),
        cycles=report.cycles,
        roof=report.golden_pe_roof(),
        bottleneck=report.bottleneck.text,
    )


def _by_name(runs: Sequence[Scaled]) -> dict[str, dict[int, Scaled]]:
    """Return the runs of each kernel by their number of PEs."""
    found: dict[str, dict[int, Scaled]] = {}
    for run in runs:
        found.setdefault(run.name, {})[run.pes] = run
    return found


def _table(options: argparse.Namespace, runs: Sequence[Scaled]) -> Table:
    """Return cycles and, below, shares of the roof; and the bottleneck with the most PEs."""
    title = f"{title_of(options)}: cycles, share of the roof"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("kernel", overflow="fold")
    for pes in options.pes:
        table.add_column(_counted(pes), justify="right")
    table.add_column(f"what limits {_counted(options.pes[-1])}", overflow="fold")
    for name, by_pes in _by_name(runs).items():
        cells = [
            f"{run.cycles:,}\n{run.share:.1%}" if run.right else "WRONG" for run in by_pes.values()
        ]
        table.add_row(name, *cells, by_pes[options.pes[-1]].bottleneck)
    return table


def _plot(options: argparse.Namespace, runs: Sequence[Scaled]) -> None:
    """Write how many times faster each kernel is than with the fewest PEs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
    least = options.pes[0]
    ideal = [pes / least for pes in options.pes]
    axes.plot(options.pes, ideal, color="0.6", linestyle="--", label="ideal")
    right = [run for run in runs if run.right]
    drawn = {n: by_pes for n, by_pes in _by_name(right).items() if len(by_pes) == len(ideal)}
    for number, (name, by_pes) in enumerate(drawn.items()):
        base = by_pes[least].cycles
        axes.plot(
            options.pes,
            [base / by_pes[pes].cycles for pes in options.pes],
            marker="osv^Dx"[number // 10 % 6],
            color=f"C{number % 10}",
            label=name,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis, ticks in ((axes.xaxis, options.pes), (axes.yaxis, ideal)):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axes.set_xlabel("PEs")
    axes.set_ylabel(f"times as fast as on {_counted(least)}")
    axes.set_title(title_of(options))
    axes.grid(color="0.9")
    axes.legend(fontsize="small")
    figure.savefig(options.plot, dpi=150)
    pyplot.close(figure)


def _counted(pes: int) -> str:
    return f"{pes} PE{'s' * (pes > 1)}"


def _save(options: argparse.Namespace, runs: Sequence[Scaled]) -> None:
    report = settings_of(options) | {"runs": [asdict(run) | {"share": run.share} for run in runs]}
    options.output.write_text(json.dumps(report, indent=2) + "\n")


def _with_pes(options: argparse.Namespace, pes: int) -> argparse.Namespace:
    return argparse.Namespace(**vars(options) | {"set": [*options.set, f"pes={pes}"]})


def _numbers(text: str) -> list[int]:
    try:
        return sorted({int(number) for number in text.split(",")})
    except ValueError:
        message = f"{text!r}: expected numbers with commas between"
        raise argparse.ArgumentTypeError(message) from None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loopnest.benchmarks.scaling", description=__doc__
    )
    parser.add_argument("names", nargs="*", help=f"matrices by name, {DENSE!r}; default all")
    parser.add_argument("--matrices", type=Path, metavar="FOLDER", help="folder with *.mtx.gz")
    parser.add_argument(
        "--pes",
        type=_numbers,
        default=list(PES),
        metavar="NUMBERS",
        help=f"numbers of PEs, with commas between; default {','.join(map(str, PES))}",
    )
    add_chip_options(parser, preset="large", latency=100)
    parser.add_argument("--output", type=Path, default=Path("build/scaling.json"))
    parser.add_argument("--plot", type=Path, default=Path("build/scaling.png"))
    options = parser.parse_args(arguments)
    try:
        _check(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def _check(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not be run or saved."""
    if options.backend != "rtl":
        raise ValueError("scaling: expected --backend rtl, which counts cycles")
    if "pes" in parse_overrides(options.set):
        raise ValueError("--set pes: expected --pes NUMBERS")
    for pes in options.pes:
        check_chip_options(_with_pes(options, pes))
    known = [DENSE, *([] if options.matrices is None else matrix_names(options.matrices))]
    check_names(options, known)
    check_outputs((options.output, options.plot))
    check_picture(options.plot)


if __name__ == "__main__":
    raise SystemExit(main())
