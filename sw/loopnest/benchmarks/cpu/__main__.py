"""Compares the chip with a CPU: ``python -m loopnest.benchmarks.cpu --matrices FOLDER``.

Eight kernels: SpMV, SpMM (64 columns), SpGEMM, SDDMM (inner size 64), MTTKRP (rank 32), TTV, the
sum of two matrices, and a layer with 90 % zeros on 64 inputs. The chip is simulated; its time is
its cycles by the clock's period, its energy that of `RunReport.energy`. The CPU's time is the best
of the libraries that are installed, in single precision, with warm caches and without conversions.
All results are compared with SciPy's; the program fails if one of the chip's differs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loopnest.progress import task
from loopnest_hw.program import program

from ...report.clock import PERIOD_NS
from ...report.energy import DEFAULT_DRAM, DRAM
from ...report.plot import check_picture
from ..options import (
    add_chip_options,
    check_chip_options,
    check_names,
    check_outputs,
    chip_of,
)
from . import machine
from .compared import Compared, Terms
from .libraries import find_libraries
from .measured import Measured, run_on_chip
from .power import DEFAULT_WATTS, Meter
from .problems import KERNELS, Choice, data_names, make_problems
from .saved import load, save
from .table import WIDTH, plot, print_tables
from .timing import best_of, time_problem


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every result is right."""
    options, reused = _parse(arguments)
    chip = chip_of(options)
    libraries, meter = find_libraries(), Meter()
    threads = machine.threads()
    about = {"cpu": machine.cpu_model(), "threads": threads, "versions": libraries.versions()}
    notes = [note for note in (libraries.note(), _energy_note(options, meter)) if note]
    terms = Terms(
        config=chip.config,
        period_ns=options.clock,
        dram=options.dram,
        watts=tuple(options.watts),
    )
    rows: list[Compared] = []
    # with the rows of an earlier run that this one does not come to
    kept = {key: Compared(measured, terms) for key, measured in reused.items()}
    choice = Choice(
        [name for name in options.names if name in KERNELS],
        [name for name in options.names if name not in KERNELS],
    )
    with task("") as shown:
        for problem in make_problems(options.matrices, options.seed, choice):
            shown.text = problem.name
            key = problem.kernel, problem.data
            old = reused.get(key)
            # before the simulator's threads run
            cpu = [] if old is None else old.cpu
            if old is None or options.cpu_again:
                again = time_problem(libraries, problem, threads, options.seconds, meter)
                cpu = best_of(cpu, again)
            on_chip = run_on_chip(chip, problem) if old is None or options.chip_again else old.chip
            rows.append(Compared(Measured.of(problem, on_chip, cpu), terms))
            kept[key] = rows[-1]
            # an interrupted run has its figures so far
            save(options, about, notes, list(kept.values()))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    title = (
        f"{options.preset}, {options.dtype}, {options.clock} ns, memory latency {options.latency}, "
        f"beside {about['cpu']}, {threads} threads, float32"
    )
    print_tables(console, title, rows)
    plot(options.plot, title, rows)
    for note in notes:
        console.print(note)
    wrong = sum(not row.right for row in rows)
    console.print(f"{len(rows)} rows, {wrong} wrong; {options.output}, {options.plot}")
    return int(wrong > 0 or not rows)


def _energy_note(options: argparse.Namespace, meter: Meter) -> str:
    """Return how much of the CPU's energy is an estimate; empty if none is."""
    if not meter.note:
        return ""
    low, high = options.watts
    return (
        f"the CPU's energy is an estimate ({meter.note}): {low:g} W a core to {high:g} W, times "
        "the time; nothing is scaled between the chip's 45 nm and the CPU's process"
    )


def _parse(
    arguments: Sequence[str] | None,
) -> tuple[argparse.Namespace, dict[tuple[str, str], Measured]]:
    """Return the options, and the rows that are measured already."""
    parser = argparse.ArgumentParser(prog="python -m loopnest.benchmarks.cpu", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help=f"kernels ({', '.join(KERNELS)}), and matrices or tensors, by name; default all",
    )
    parser.add_argument("--matrices", type=Path, metavar="FOLDER", help="folder with *.mtx.gz")
    add_chip_options(parser, preset="large", latency=100)
    parser.add_argument("--seed", type=int, default=0, help="of the tensors")
    parser.add_argument(
        "--clock", type=float, default=PERIOD_NS, metavar="NS", help="the chip's clock period"
    )
    parser.add_argument(
        "--dram", default=DEFAULT_DRAM, help=f"{', '.join(DRAM)}, or pJ a bit: the chip's memory"
    )
    parser.add_argument(
        "--watts",
        type=float,
        nargs=2,
        default=DEFAULT_WATTS,
        metavar=("LOW", "HIGH"),
        help="of a core of the CPU and of its package, where the machine does not measure them",
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="that each library is timed for, at least"
    )
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="FILE",
        help="rows of an earlier run, which are not measured again; energies are computed anew",
    )
    parser.add_argument(
        "--chip-again",
        action="store_true",
        help="with --reuse: run the kernels on the chip once more, after it has changed",
    )
    parser.add_argument(
        "--cpu-again",
        action="store_true",
        help="with --reuse: time the CPU once more, and keep the best of both",
    )
    parser.add_argument("--output", type=Path, default=Path("build/cpu.json"))
    parser.add_argument("--plot", type=Path, default=Path("build/cpu.png"))
    options = parser.parse_args(arguments)
    try:
        _check(options)
        return options, {} if options.reuse is None else load(options.reuse, options)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _check(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not be run or saved."""
    check_chip_options(options)
    if options.dram not in DRAM:
        try:
            options.dram = float(options.dram)
        except ValueError:
            names = ", ".join(DRAM)
            message = f"--dram {options.dram}: expected pJ a bit, or one of {names}"
            raise ValueError(message) from None
    low, high = options.watts
    if not 0 < low <= high:
        raise ValueError(f"--watts {low:g} {high:g}: expected more than 0, the lower number first")
    for name in ("clock", "seconds", "dram"):
        value = getattr(options, name)
        if not isinstance(value, str) and not 0 < value < float("inf"):
            raise ValueError(f"--{name} {value:g}: expected more than 0")
    if options.seed < 0:
        raise ValueError(f"--seed {options.seed}: expected 0 or more")
    for again in ("chip", "cpu"):
        if getattr(options, f"{again}_again") and options.reuse is None:
            raise ValueError(f"--{again}-again: expected --reuse FILE")
    known = [*KERNELS, *data_names(options.matrices)]
    check_names(options, known)
    check_outputs((options.output, options.plot))
    check_picture(options.plot)


if __name__ == "__main__":
    raise SystemExit(main())
