"""The options that examples have in common, and the chip that they say."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from loopnest import Chip, Memory
from loopnest_hw.config import make_config

from ..formats.files import check_writable


def parser_of(name: str, description: str | None, *, part: bool = True) -> argparse.ArgumentParser:
    """Return a parser for an example's arguments: backend, preset, memory, where the report and the
    plot go, and with ``part`` whether the run without zeros is measured as a whole.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m loopnest.examples.{name}", description=description
    )
    parser.add_argument("--backend", choices=("rtl", "model"), default="rtl")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--latency", type=int, default=100, help="of the memory, in cycles")
    parser.add_argument("--bytes-per-cycle", type=float, default=32)
    if part:
        parser.add_argument(
            "--dense",
            action="store_true",
            help="measure all without zeros, not estimate it by a part",
        )
    parser.add_argument("--output", type=Path, default=Path("build"))
    parser.set_defaults(name=name)
    return parser


def files_of(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the paths of the report and of the plot."""
    return options.output / f"{options.name}.json", options.output / f"{options.name}.png"


def check_options(
    options: argparse.Namespace,
    dtype: str,
    counts: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Check the options, before anything takes time.

    Parameters
    ----------
    counts : sequence of str
        Options that have to be 1 or more.
    shares : sequence of str
        Options that have to be 0 or more and less than 1, if they are given.

    Raises
    ------
    ValueError, OSError
        If a chip or a memory cannot be so, a number is out of range, or a file cannot be written.
    """
    make_config(options.preset, dtype)
    memory_of(options)
    for name in counts:
        if (count := getattr(options, name)) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {count}: expected 1 or more")
    for name in shares:
        share = getattr(options, name)
        if share is not None and not 0 <= share < 1:
            raise ValueError(f"--{name} {share}: expected 0 to less than 1")
    options.output.mkdir(parents=True, exist_ok=True)
    for file in files_of(options):
        check_writable(file)


def memory_of(options: argparse.Namespace) -> Memory:
    """Return the memory."""
    return Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)


def chip_of(options: argparse.Namespace, dtype: str, backend: str | None = None) -> Chip:
    """Return the chip, or another backend of it."""
    return Chip(
        options.preset,
        dtype=dtype,
        memory=memory_of(options),
        backend=backend or options.backend,
    )
