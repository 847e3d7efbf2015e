"""Injects random faults into the units, and counts those that the benches detect.

``python -m tb.mutation 200 --seed 1`` (``make mutate``) continues where it was interrupted; its
results are in build/mutation/results.jsonl. A mutant that passes its unit's bench and the whole
chip's is compared with the unit itself: one that is proved equivalent does not count.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from rich.console import Console

from loopnest_hw.program import program
from tb.mutation.equivalence import is_equivalent
from tb.mutation.mutants import Mutation, choose, write_mutants, write_netlist
from tb.mutation.plan import ROOT, UNITS, Design, Share, load, shares
from tb.mutation.results import Result, append_result, load_results, table_of
from tb.mutation.trial import limit_of, try_mutant
from tb.mutation.whole import Module, counterparts, read_modules, write_chip_mutants

FOLDER = ROOT / "build" / "mutation"
RESULTS = FOLDER / "results.jsonl"

CHIP_BENCH = "tb.chip.test_whole_chip"

BUILD_SECONDS = 1800.0
"""Time limit of the first run of a design, which compiles it."""


def try_design(
    design: Design, shares: Sequence[Share], options: argparse.Namespace, console: Console
) -> None:
    """Choose a design's mutants, and run its bench on those without a result."""
    folder = FOLDER / design.name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "netlist.il").exists():
        write_netlist(folder, design.text)
    chosen = [
        (share.unit, mutation)
        for share in shares
        for mutation in choose(folder, share.modules, share.count, options.seed)
    ]
    known = {
        mutant
        for mutant, result in load_results(RESULTS).items()
        if not (options.again and result.outcome == "survived")
    }
    if all((design.name, mutation.options) in known for _, mutation in chosen):
        return
    text = write_mutants(folder, [mutation for _, mutation in chosen])
    # the first run compiles the design
    sound = [try_mutant(run, text, 0, BUILD_SECONDS) for run in (design.runs[0], *design.runs)][1:]
    for ending in sound:
        if ending.outcome != "passed":
            raise RuntimeError(f"{design.name}, no mutant: {ending.outcome}, {ending.detail}")
    for number, (unit, mutation) in enumerate(chosen, 1):
        if (design.name, mutation.options) in known:
            continue
        seconds, outcome, detail = 0.0, "survived", ""
        for run, expected in zip(design.runs, sound, strict=True):
            ending = try_mutant(run, text, number, limit_of(expected))
            seconds += ending.seconds
            if ending.outcome != "passed":
                outcome, detail = "bench", ending.detail or "it hangs"
                break
        result = Result(
            unit, design.name, mutation.options, mutation.wire, mutation.source,
            outcome, detail, round(seconds, 1),
        )  # fmt: skip
        append_result(RESULTS, result)
        shown = f"{outcome:10} {unit}  {result.source}  {result.wire}  {result.options}"
        console.print(shown, highlight=False, markup=False, soft_wrap=True)


def settle(designs: dict[str, Design], console: Console) -> None:
    """Try to prove mutants equivalent, and run the chip's bench on the others."""
    left = [
        (result, Mutation(result.options, result.wire, result.source))
        for result in load_results(RESULTS).values()
        if result.outcome == "survived" and result.design in designs
    ]
    unproved: dict[Result, Mutation] = {}
    for result, mutation in left:
        if is_equivalent(FOLDER / result.design, mutation):
            append_result(RESULTS, replace(result, outcome="equivalent"))
        else:
            unproved[result] = mutation
    chips = [design for design in designs.values() if design.runs[0].module == CHIP_BENCH]
    for chip in sorted(chips, key=lambda chip: -len(chip.runs)):
        folder = FOLDER / chip.name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "netlist.il").exists():
            write_netlist(folder, chip.text)
        inside = modules_of(folder)
        places = {
            result: [*counterparts(modules_of(FOLDER / result.design), mutation, inside)]
            for result, mutation in unproved.items()
            if result.design != chip.name
        }
        mine = [result for result, found in places.items() if found]
        text = write_chip_mutants(folder, [places[result] for result in mine]) if mine else ""
        for run in chip.runs if mine else []:
            try_mutant(run, text, 0, BUILD_SECONDS)
            sound = try_mutant(run, text, 0, BUILD_SECONDS)
            if sound.outcome != "passed":
                raise RuntimeError(f"{chip.name}, no mutant: {sound.detail}")
            for number, result in enumerate(mine, 1):
                if result not in unproved:
                    continue
                ending = try_mutant(run, text, number, limit_of(sound))
                console.print(f"{ending.outcome:10} on the chip  {result.unit}  {result.options}")
                if ending.outcome != "passed":
                    del unproved[result]
                    detail = ending.detail or "it hangs"
                    append_result(RESULTS, replace(result, outcome="chip", detail=detail))


@cache
def modules_of(folder: Path) -> dict[str, Module]:
    """Return the modules of a folder's netlist."""
    return read_modules((folder / "netlist.il").read_text())


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tb.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=200, help="mutants (200)")
    parser.add_argument("--seed", type=int, default=1, help="of their choice (1)")
    parser.add_argument("--unit", action="append", help="only these units, such as row/joiner")
    parser.add_argument("--skip", action="append", default=[], help="not these")
    parser.add_argument("--again", action="store_true", help="those that survived once more")
    parser.add_argument("--report", action="store_true", help="only show what was found")
    options = parser.parse_args(arguments)
    console = Console()
    if options.count < 0:
        parser.error(f"count {options.count}: expected 0 or more")
    where = UNITS.relative_to(ROOT)
    for unit in (*(options.unit or ()), *options.skip):
        if not (UNITS / f"{unit}.py").is_file():
            parser.error(f"unit {unit!r}: expected a file of {where}, such as row/joiner")
    designs = load(FOLDER / "designs")
    planned = shares(designs, options.count)
    units = sorted({share.unit for share in planned})
    for unit in (*(options.unit or ()), *options.skip):
        if unit not in units:
            parser.error(f"unit {unit!r}: expected one of {', '.join(units)}")
    if not options.report:
        of_design: dict[str, list[Share]] = {}
        for share in planned:
            if share.unit in (options.unit or [share.unit]) and share.unit not in options.skip:
                of_design.setdefault(share.design, []).append(share)
        for name, parts in of_design.items():
            try_design(designs[name], parts, options, console)
        settle(designs, console)
    # results for other versions of the RTL or of the benches do not count
    homes = {(share.unit, share.design) for share in planned}
    results = [r for r in load_results(RESULTS).values() if (r.unit, r.design) in homes]
    for result in results:
        if result.outcome == "survived":
            place = f"{result.source}  {result.wire}  {result.options}"
            console.print(place, highlight=False, markup=False, soft_wrap=True)
    console.print(table_of(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
