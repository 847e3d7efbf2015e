"""`make fuzz`: any number of random cases in the RTL simulator; each can be replayed by its seed.

python -m tests.fuzz 1000 --seed 0 --kind expressions --chips shrunk/int8,tiny/bf16
"""

import argparse
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loopnest.kernel.verilog import cached_verilog
from loopnest_hw.config import ChipConfig, make_config, parse_overrides
from loopnest_hw.program import program
from tests.rtl.chips import Pair

from . import corruption, expressions
from .shrink import paste, shrink

CHIPS = (
    "shrunk/int8",
    "shrunk/bf16",
    "shrunk/bf16/multipliers=1",
    "shrunk/int8/multipliers=8",
    "shrunk/bf16/multipliers=16",
    "shrunk/int8/pes=2",
    "shrunk/bf16/pes=5",
    "tiny/bf16",
    "single/int8",
    "single/bf16",
)
"""Both formats, every preset, and all numbers of multipliers but one; two thirds of the cases run
on `shrunk`, so that rare paths are common.
"""

STATUS = 500
"""Cases between lines of progress, if no progress bar can be shown."""

KINDS: dict[str, Callable[[Pair, int], str]] = {
    "expressions": expressions.run_seed,
    "corruption": corruption.run_seed,
}
"""A function that runs a seed's case: it returns the outcome, or raises if the result is wrong."""


def chip_of(seed: int, chips: Sequence[str]) -> str:
    """Return the chip of a seed's case: `shrunk` for two of three seeds, if it is among the
    chips.
    """
    rng = np.random.default_rng([seed, 1])
    shrunk = [name for name in chips if name.startswith("shrunk/")]
    others = [name for name in chips if name not in shrunk]
    first, second = (shrunk or others), (others or shrunk)
    return str(rng.choice(first if rng.random() < 2 / 3 else second))


def config_of(chip: str) -> ChipConfig:
    """Return the configuration of a chip, such as ``"shrunk/int8"``; ValueError if it is none."""
    preset, dtype, *overrides = chip.split("/")
    return make_config(preset, dtype, **parse_overrides(overrides))


def export(chip: str) -> None:
    """Put a chip's Verilog into the cache, by a process of its own: an export takes hundreds of
    megabytes on top of what the cases take.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(cached_verilog, config_of(chip)).result()


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", type=int, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; others follow")
    parser.add_argument("--kind", choices=KINDS, action="append", help="by default all kinds")
    parser.add_argument("--chips", default=",".join(CHIPS), help=f"by default {','.join(CHIPS)}")
    parser.add_argument(
        "--model", action="store_true", help="expressions, on the golden model only"
    )
    chosen = parser.parse_args(arguments)
    kinds = dict(KINDS)
    if chosen.model:
        kinds = {"expressions": lambda pair, seed: expressions.run_seed(pair, seed, rtl=False)}
    chips = chosen.chips.split(",")
    if chosen.count < 0 or chosen.seed < 0:
        parser.error(f"count {chosen.count}, seed {chosen.seed}: expected 0 or more")
    for chip in chips:
        try:
            config_of(chip)
        except ValueError as error:
            parser.error(f"chip {chip!r}: {error}")
    console = Console(stderr=True)
    pairs: dict[str, Pair] = {}
    failed = 0
    for kind in [kind for kind in kinds if kind in (chosen.kind or kinds)]:
        ended: Counter[str] = Counter()
        begin = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task(kind, total=chosen.count)
            for seed in range(chosen.seed, chosen.seed + chosen.count):
                name = chip_of(seed, chips)
                if name not in pairs:
                    progress.update(task, description=f"{kind}: {name}")
                    if not chosen.model:
                        export(name)
                    # nearly every case has a memory of its own: a kept one is not used again
                    pairs[name] = Pair(name, max_chips=1)
                progress.update(task, description=f"{kind}: {name}")
                try:
                    ended[kinds[kind](pairs[name], seed)] += 1
                except Exception as error:
                    ended["FAILED"] += 1
                    failed += 1
                    _report(console, kind, pairs[name], seed, error, rtl=not chosen.model)
                progress.advance(task)
                if not console.is_terminal and sum(ended.values()) % STATUS == 0:
                    console.print(
                        f"{kind}: {sum(ended.values())} cases, {ended['FAILED']} failed, "
                        f"peak memory {peak_memory() >> 20} MiB"
                    )
        print(f"{kind}: {chosen.count} cases in {time.monotonic() - begin:.0f} s:",
              ", ".join(f"{n} {how}" for how, n in ended.most_common()), flush=True)  # fmt: skip
    print(f"peak memory: {peak_memory() >> 20} MiB")
    return int(failed > 0)


def peak_memory() -> int:
    """Return the maximum memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _report(
    console: Console, kind: str, pair: Pair, seed: int, error: Exception, *, rtl: bool
) -> None:
    """Report a failure, how to replay it, and the smallest case that fails in the same way, as a
    test.
    """
    name = pair.name
    console.print(f"[red]{kind} seed {seed} on {name} failed[/red]")
    console.print("".join(traceback.format_exception(error, limit=-2)), markup=False)
    console.print(
        f"again: make fuzz N=1 SEED={seed} KIND={kind} CHIPS={name}\n"
        f"in Python:\n"
        f"    from tests.fuzz import {kind}\n"
        f"    from tests.rtl.chips import Pair\n"
        f"    print({kind}.run_seed(Pair({name!r}), {seed}))",
        markup=False,
    )
    if kind == "expressions":
        try:
            case = expressions.make_case(seed, pair.dtype)
            smallest = shrink(case, lambda smaller: expressions.check(pair, smaller, rtl=rtl))
            console.print(f"the smallest case:\n\n{paste(smallest, name)}\n", markup=False)
        except Exception as other:  # the fuzzer continues whatever a broken chip does
            console.print(f"not minimised: {other!r}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
