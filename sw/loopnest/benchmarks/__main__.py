"""Measures kernels on real matrices: ``python -m loopnest.benchmarks --matrices FOLDER``.

Of every ``*.mtx.gz`` file of the folder, the pattern is used, with random nonzero integers from -8
to 8: results are exact in both number formats, and are compared with SciPy's. The program fails if
one differs; a missed bound is marked in the table.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from loopnest import Chip
from loopnest.progress import task
from loopnest_hw.program import program

from .cases import Case, dense_case, matrix_cases
from .contractions import run_contractions
from .convolution import convolution_cases
from .graphs import CountedChip, GraphOutcome, graph_outcomes
from .heavy import heavy_cases
from .layer import layer_cases
from .matrices import matrix_names
from .options import (
    add_chip_options,
    check_chip_options,
    check_outputs,
    chip_of,
    settings_of,
    title_of,
)
from .orders import order_cases
from .outcome import Outcome, run_cases
from .picks import Pick, run_picks, table_of
from .plans import plan_cases
from .replicated import replicated
from .sizes import SIZES, size_cases
from .skipping import skipping_cases
from .spread import spread_cases

WITHOUT_FILES = ("dense", "layer", "convolution", "skipping", "heavy", "plans")
"""Names of the cases that need no matrices."""

ORDERS = "orders"
"""Name of the cases of all loop orders, instead of the others."""

SPREAD = "spread"
"""Name of the products over 2^20 columns, instead of the others."""

ON_GRAPHS = "graphs"
"""Name of the graph algorithms, instead of the others."""

PICKS = "picks"
"""Name of the random statements, instead of the others."""

CONTRACTIONS = "contractions"
"""Name of the random products of three and four factors, instead of the others."""

DRAWN = {PICKS: run_picks, CONTRACTIONS: run_contractions}
"""What runs random statements."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every result is right."""
    options = _parse(arguments)
    console = Console()
    on_graphs = ON_GRAPHS in options.names
    if on_graphs and options.matrices is None:
        console.print("graphs: skipped without --matrices FOLDER")
        return 0
    chip = chip_of(options, make=CountedChip if on_graphs else Chip)
    if isinstance(chip, CountedChip):
        return _run_graphs(console, options, chip)
    for name in DRAWN.keys() & set(options.names):
        return _run_picks(console, options, chip, name)
    outcomes: list[Outcome] = []
    with task("") as shown:

        def announced() -> Iterator[Case]:
            for case in _cases(options, chip):
                shown.text = case.name
                yield case

        for outcome in run_cases(chip, announced()):
            outcomes.append(outcome)
            # an interrupted run has its figures so far
            _save(options, outcomes)
    _print(console, options, outcomes)
    return 0 if all(outcome.right for outcome in outcomes) else 1


def _run_graphs(console: Console, options: argparse.Namespace, chip: CountedChip) -> int:
    """Run the graph algorithms and print a table; return 0 if all are right."""
    wanted = [name for name in options.names if name != ON_GRAPHS]
    outcomes: list[GraphOutcome] = []
    with task("") as shown:

        def announce(what: str) -> None:
            shown.text = what

        for outcome in graph_outcomes(chip, options.matrices, wanted, announce):
            outcomes.append(outcome)
            _save(options, outcomes)
    table = Table(title=title_of(options), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("graph", "algorithm"):
        table.add_column(name, no_wrap=True)
    for name in ("kernels", "cycles"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("found", "1-norm", "right"):
        table.add_column(name)
    for one in outcomes:
        norm = "-" if one.distance is None else f"{one.distance:.1e} of {one.bound:.1e}"
        figures = f"{one.kernels:,}", f"{one.cycles:,}" if one.cycles else "-"
        right = "yes" if one.right else "WRONG"
        table.add_row(one.graph, one.algorithm, *figures, one.found, norm, right)
    console.print(table)
    wrong = sum(not outcome.right for outcome in outcomes)
    console.print(f"{len(outcomes)} runs, {wrong} wrong; {options.output}")
    return int(wrong > 0)


def _run_picks(console: Console, options: argparse.Namespace, chip: Chip, name: str) -> int:
    """Run random statements in all orders or ways and print a table; return 0 if all bounds are
    kept.
    """
    outcomes: list[Pick] = []
    with task("statement 1") as shown:
        for pick in DRAWN[name](chip, options.count, options.seed):
            outcomes.append(pick)
            shown.text = f"statement {len(outcomes) + 1}"
            _save(options, outcomes)
    console.print(table_of(outcomes, f"{title_of(options)}, seed {options.seed}"))
    wrong = sum(not pick.right for pick in outcomes)
    missed = sum(not pick.met for pick in outcomes)
    console.print(
        f"{len(outcomes)} statements, {wrong} wrong, {missed} over a bound; {options.output}"
    )
    return int(wrong + missed > 0)


def _cases(options: argparse.Namespace, chip: Chip) -> Iterator[Case]:
    names, folder = options.names, options.matrices
    multipliers = chip.config.multipliers * chip.config.pes
    if ORDERS in names:
        assert folder is not None
        yield from order_cases(chip, folder, [name for name in names if name != ORDERS])
        return
    if SPREAD in names:
        wanted = [name for name in names if name != SPREAD]
        yield from spread_cases(folder, wanted)
        return
    if not names or "dense" in names:
        yield dense_case(multipliers)
    if not names or "layer" in names:
        yield from layer_cases(multipliers, shared=chip.config.pes > 1)
    if not names or "convolution" in names:
        yield from convolution_cases(chip.config)
    if not names or "skipping" in names:
        yield from skipping_cases()
    if not names or "heavy" in names:
        yield from heavy_cases()
    if not names or "plans" in names:
        yield from plan_cases()
    yield from size_cases(names)
    matrices = [name for name in names if name not in (*WITHOUT_FILES, *SIZES)]
    if folder is not None and (matrices or not names):
        if not options.min_roof:
            yield from matrix_cases(folder, matrices)
            return
        model = chip_of(options, backend="model")
        yield from matrix_cases(folder, matrices, partial(replicated, model, options.min_roof))


def _save(options: argparse.Namespace, outcomes: Sequence[Outcome | GraphOutcome | Pick]) -> None:
    report = settings_of(options) | {"runs": [outcome.to_dict() for outcome in outcomes]}
    options.output.write_text(json.dumps(report, indent=2) + "\n")


def _print(console: Console, options: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    table = Table(title=title_of(options), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("kernel", overflow="fold")
    for name in ("cycles", "PE roof", "share", "bound", "met"):
        table.add_column(name, justify="right")

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    for outcome in outcomes:
        share = "-" if outcome.share is None else f"{outcome.share:.1%}"
        met = {None: "-", True: "yes", False: "no"}[outcome.met]
        figures = (number(outcome.cycles), number(outcome.pe_roof), share, number(outcome.bound))
        table.add_row(outcome.name, *figures, met if outcome.right else "WRONG")
    console.print(table)
    shares = defaultdict(list)
    for outcome in outcomes:
        if outcome.share and outcome.pe_roof >= options.min_roof:
            shares[outcome.name.split()[0].rstrip(",:")].append(outcome.share)
    means = [f"{kind} {geometric_mean(s):.1%}" for kind, s in shares.items() if len(s) > 1]
    if means:
        console.print(f"geometric means of the shares: {', '.join(means)}")
    missed = sum(outcome.met is False for outcome in outcomes)
    wrong = sum(not outcome.right for outcome in outcomes)
    console.print(
        f"{len(outcomes)} kernels, {wrong} wrong, {missed} over their bound; {options.output}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loopnest.benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="matrices by name, 'dense', 'layer', 'convolution', 'skipping', 'heavy'; default all; "
        "with 'orders', all loop orders; with 'spread', products over 2^20 columns; with "
        "'graphs', graph algorithms; with 'picks', all loop orders of random statements; with "
        "'contractions', all ways to take the factors of random products; 'wide-spmv', "
        "'wide-spgemm', 'wide-gather': millions of rows",
    )
    parser.add_argument("--matrices", type=Path, metavar="FOLDER", help="folder with *.mtx.gz")
    add_chip_options(parser, preset="single", latency=4)
    parser.add_argument(
        "--min-roof",
        type=int,
        default=0,
        metavar="CYCLES",
        help="replicate a matrix along a block diagonal until a kernel's roof is so many cycles",
    )
    parser.add_argument("--count", type=int, default=30, help="random statements")
    parser.add_argument("--seed", type=int, default=0, help="of random statements")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    options = parser.parse_args(arguments)
    try:
        _check(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return options


def _check(options: argparse.Namespace) -> None:
    """Refuse, before anything is computed, what could not be run or saved."""
    check_chip_options(options)
    if PICKS in options.names and options.backend != "rtl":
        raise ValueError(f"{PICKS}: expected --backend rtl, which counts cycles")
    if SPREAD in options.names and (others := {*options.names} & {*WITHOUT_FILES, *SIZES}):
        raise ValueError(f"{', '.join(sorted(others))}: expected names of matrices with {SPREAD}")
    for name, least in (("count", 1), ("seed", 0), ("min_roof", 0)):
        value = getattr(options, name)
        if value < least:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected {least} or more")
    known = (*WITHOUT_FILES, *SIZES, SPREAD, ON_GRAPHS, *DRAWN)
    if options.matrices is not None:
        matrices = matrix_names(options.matrices)
        for name in options.names:
            if name not in (*known, ORDERS, *matrices):
                names = ", ".join((*known, ORDERS, *matrices))
                raise ValueError(f"{name!r}: expected some of {names}")
    elif needed := set(options.names) - set(known):
        shown = ", ".join(sorted(needed))
        raise ValueError(f"{shown}: expected --matrices FOLDER with such files")
    check_outputs([options.output])


if __name__ == "__main__":
    raise SystemExit(main())
