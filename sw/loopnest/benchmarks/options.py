"""The options of a benchmark's command line that say which chip runs it."""

import argparse
from typing import Any

from loopnest import Chip, Memory
from loopnest_hw.config import make_config, parse_overrides


def add_chip_options(parser: argparse.ArgumentParser, *, preset: str, latency: int) -> None:
    """Add the options, with these defaults."""
    parser.add_argument("--preset", default=preset)
    parser.add_argument("--dtype", choices=("bf16", "int8"), default="bf16")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER", help="override a parameter"
    )
    parser.add_argument("--backend", choices=("rtl", "model"), default="rtl")
    parser.add_argument("--latency", type=int, default=latency, help="of the memory, in cycles")
    parser.add_argument("--bytes-per-cycle", type=float, default=32, help="of each memory port")


def check_chip_options(options: argparse.Namespace) -> None:
    """Raise ValueError if there is no such chip or memory."""
    make_config(options.preset, options.dtype, **parse_overrides(options.set))
    Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle)


def chip_of(
    options: argparse.Namespace, *, make: type[Chip] | None = None, backend: str | None = None
) -> Chip:
    """Return the chip, of class ``make``, or one with another backend."""
    overrides: Any = parse_overrides(options.set)
    return (make or Chip)(
        options.preset,
        dtype=options.dtype,
        memory=Memory(latency=options.latency, bytes_per_cycle=options.bytes_per_cycle),
        backend=backend or options.backend,
        **overrides,
    )
