"""What commands read and print: operands, results and reports; and the arguments of several."""

import argparse
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console

from loopnest_hw.config import PRESETS, NumberFormat

from ..chip import Chip
from ..formats.files import check_writable, read_tensor
from ..kernel.backends import BACKENDS
from ..report.plot import check_picture
from ..report.report import RunReport

FORMATS = [f.value for f in NumberFormat]

MAX_SHOWN = 1 << 16
"""Elements of a result that are printed at most."""


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a chip's configuration."""
    parser.add_argument(
        "--preset", choices=PRESETS, default="single", help="the configuration (single)"
    )
    parser.add_argument("--dtype", choices=FORMATS, default="bf16", help="number format (bf16)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=NUMBER",
        help="a field of the configuration, such as multipliers=8",
    )  # fmt: skip


def add_latency(parser: argparse.ArgumentParser) -> None:
    """Add the argument of the memory's latency."""
    parser.add_argument(
        "--latency", type=int, default=100, metavar="CYCLES", help="of the memory (100)"
    )


def add_run(parser: argparse.ArgumentParser, result: str) -> None:
    """Add the arguments of a run: what runs it, the memory, and where the ``result`` in words and
    the reports go.
    """
    parser.add_argument(
        "--backend", choices=BACKENDS, default="rtl", help="the chip (rtl), or the golden model"
    )
    parser.add_argument(
        "--bytes-per-cycle", type=float, default=32, metavar="BYTES", help="of the memory (32)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help=result)
    parser.add_argument("--report", metavar="FILE", help="where the report goes, as JSON")
    parser.add_argument(
        "--plot", metavar="FILE", help="picture of the stages and the roofline (rtl)"
    )
    parser.add_argument("--trace", metavar="FILE", help="trace of the run, for Perfetto (rtl)")


def read_operands(words: Sequence[str]) -> dict[str, Any]:
    """Return the operands of ``NAME=FILE`` or ``NAME=number`` words."""
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"{word!r}: expected NAME=FILE or NAME=number")
        if name in signature(Chip.compute).parameters:
            raise ValueError(f"{word!r}: {name!r} is no operand: expected another name")
        if name in found:
            raise ValueError(f"{word!r}: {name!r} is given twice: expected it once")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = read_tensor(value)
    return found


def show(result: Any) -> None:
    """Print a result, one entry per line, as in a .tns file."""
    if sp.issparse(result):
        coo = result.tocoo()
        for entry in zip(*(c.tolist() for c in coo.coords), coo.data.tolist(), strict=True):
            print(*entry)
    else:
        print(np.asarray(result))


def check_reports(options: argparse.Namespace) -> None:
    """Check, before the time of a run is spent, that what is told of it can be written."""
    for file in (options.report, options.plot, options.trace):
        if file:
            check_writable(file)
    if options.plot:
        check_picture(options.plot)
    if options.backend != "rtl" and (options.plot or options.trace):
        name = "plot" if options.plot else "trace"
        raise ValueError(f"--{name}: {options.backend!r} counts no cycles: expected --backend rtl")


def write_reports(options: argparse.Namespace, console: Console, report: RunReport) -> None:
    """Print a report, and write the files that the options name."""
    if options.report:
        report.save(options.report)
    if options.plot:
        report.plot(options.plot)
    if options.trace:
        report.trace(options.trace)
    console.print(report)
