"""What benchmarks' command lines share: which chip runs it, names, and files to write."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from loopnest import Chip, Memory
from loopnest_hw.config import make_config, parse_overrides

from ..formats.files import check_writable


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


def title_of(options: argparse.Namespace) -> str:
    """Return a table's title: the chip and its memory."""
    return f"{options.preset}, {options.dtype}, memory latency {options.latency}"


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that say which chip it is, for a report."""
    names = ("preset", "dtype", "set", "backend", "latency", "bytes_per_cycle")
    return {name: getattr(options, name) for name in names}


def check_names(options: argparse.Namespace, known: Sequence[str]) -> None:
    """Raise ValueError if one of ``options.names`` is not known."""
    for name in options.names:
        if name not in known:
            without = "; matrices need --matrices FOLDER" if options.matrices is None else ""
            raise ValueError(f"{name!r}: expected some of {', '.join(known)}{without}")


def check_outputs(paths: Iterable[Path]) -> None:
    """Make the folders of files to write; raise ValueError or OSError if one can't be written."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path)
