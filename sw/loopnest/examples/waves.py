"""Waves of a small product: records all signals of the chip in a window of cycles.

It prints what it computes, which cycles it records, and which file it has written.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from loopnest import Chip, RunReport
from loopnest_hw.config import PRESETS, NumberFormat
from loopnest_hw.program import program
from loopnest_sim.waves import make_waves

STATEMENT = "C[i,j] = A[i,k] * B[k,j]"
SIZE, DENSITY = 64, 0.1
LAST = 1000
"""The default last cycle: enough to see all units at work."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0."""
    options = _parse(arguments)
    waves = make_waves((options.waves, options.first, options.last))
    chip = f"preset {options.preset}, {options.dtype}"
    print(f"{STATEMENT}, {SIZE} x {SIZE} with {DENSITY:.0%} nonzeros, {chip}")
    print(f"records cycles {waves.first:,} to {waves.last:,} into {waves.path}")
    print("builds a simulator that can do so, which takes minutes the first time")
    report = _record(options)
    size = waves.path.stat().st_size / 1e6
    print(f"ran {report.cycles:,} cycles; {waves.path} has {size:.1f} MB, 1 ns for each cycle")
    return 0


def _record(options: argparse.Namespace) -> RunReport:
    """Run the product and return its report; the waves are complete when the chip is closed."""
    generator = np.random.default_rng(1)
    matrix = sp.random_array((SIZE, SIZE), density=DENSITY, format="csr", rng=generator)
    waves = (options.waves, options.first, options.last)
    with Chip(options.preset, dtype=options.dtype, waves=waves) as chip:
        chip.compute(STATEMENT, A=matrix, B=matrix)
        assert chip.report is not None
        return chip.report


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loopnest.examples.waves", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="single")
    parser.add_argument("--dtype", choices=[f.value for f in NumberFormat], default="bf16")
    parser.add_argument("--waves", type=Path, default=Path("build/waves"), metavar="FILE")
    parser.add_argument("--first", type=int, default=0, help="the first cycle recorded")
    parser.add_argument("--last", type=int, default=LAST, help="the last one")
    options = parser.parse_args(arguments)
    try:
        make_waves((options.waves, options.first, options.last))
    except ValueError as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    raise SystemExit(main())
